"""The keys that challenges are signed with, as the operator gave them or made for this run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from structlog.typing import FilteringBoundLogger

from wow.config import Settings
from wow.pow import keys
from wow.pow.keys import KeyRing


class KeyFinder:
    """Finds the keys that settings name. Where they name none, it is always the same random one."""

    def __init__(self, environ: Mapping[str, str], log: FilteringBoundLogger) -> None:
        self._environ = environ
        self._log = log
        self._random: KeyRing | None = None

    def find(self, settings: Settings) -> KeyRing:
        """
        Read them.

        @raise keys.BadKey: if keys were given that cannot be used.
        """
        found = keys.find(settings.keys.file, self._environ)
        if found is not None:
            self._log.info("keys", ids=" ".join(found.ids()))
            return found
        if self._random is None:
            self._random = KeyRing([keys.generate(datetime.now(UTC))])
            self._log.warning(
                "random_key",
                meaning="no keys were given, so challenges are good only for this process: a "
                "restart voids those that are out, and no other server can redeem them",
                remedy="wow keygen wow.key, and set keys.file",
            )
        return self._random
