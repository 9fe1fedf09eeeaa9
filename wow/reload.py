"""The configuration read again, while the server runs."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel
from structlog.typing import FilteringBoundLogger

from wow.certificate import BadCertificate
from wow.config import ConfigError, Settings


class Reload:
    """
    Puts in force what can be without a restart: the lists of networks that are
    allowed, denied and believed, and what is in the files of certificates.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        prepare: Callable[[Settings], Callable[[], object]],
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param settings: what the server was started with.
        @param load: reads them again.
        @param prepare: reads all that belongs to some settings, and gives what
            puts them in force and cannot fail.
        """
        self._settings = settings
        self._load = load
        self._prepare = prepare
        self._log = log

    def __call__(self) -> None:
        """
        Read it. If anything is wrong with it, that is logged, and all that was
        in force stays so.
        """
        try:
            settings = self._load()
            put_in_force = self._prepare(settings)
        except (ConfigError, BadCertificate) as error:
            self._log.error("reload_refused", reason=str(error), meaning="nothing has changed")
            return
        put_in_force()
        limits = settings.limits
        self._log.info("reloaded", allow=len(limits.allow), deny=len(limits.deny))
        if changed := changes(self._settings, settings) - LIVE:
            self._log.warning("restart_needed", changed=" ".join(sorted(changed)))


LIVE = frozenset(("limits.allow", "limits.deny", "proxy.networks"))
"""What can be put in force while a process runs."""


def changes(before: Settings, after: Settings) -> set[str]:
    """The keys that have other values."""
    one, other = _flat(before), _flat(after)
    return {key for key in other if one[key] != other[key]}


def _flat(settings: Settings) -> dict[str, object]:
    sections = {name: getattr(settings, name) for name in Settings.model_fields}
    return {
        f"{name}.{key}" if key else name: value
        for name, section in sections.items()
        for key, value in (
            dict(section) if isinstance(section, BaseModel) else {"": section}
        ).items()
    }
