"""The configuration read again, where workers serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from structlog.typing import FilteringBoundLogger

from wow.certificate import BadCertificate
from wow.config import ConfigError, Settings
from wow.pow.keys import BadKey, KeyRing
from wow.reload import LIVE, changes
from wow.workers.control import Terms
from wow.workers.supervisor import Supervisor

_FIXED = ("listen", "admin", "workers")
"""What the parent itself does, and goes on doing as it did."""


class WorkersReload:
    """
    Puts in force what workers can take as they are, or else replaces them.
    They are also replaced when nothing has changed: perhaps what is in some
    file has.

    @ivar in_force: the settings that workers have, or are to have.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        find_keys: Callable[[Settings], KeyRing],
        prepare: Callable[[Settings], Callable[[], object]],
        supervisor: Supervisor,
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param settings: what the server was started with.
        @param load: reads them again.
        @param find_keys: reads the keys that they name.
        @param prepare: reads what is the parent's own of them, and gives what
            puts it in force and cannot fail.
        """
        self.in_force = settings
        self._load = load
        self._find_keys = find_keys
        self._prepare = prepare
        self._supervisor = supervisor
        self._log = log

    def __call__(self) -> None:
        """
        Read it. If anything is wrong with it, that is logged, and all that was
        in force stays so.
        """
        try:
            read = self._load()
            settings = self._keep_fixed(read)
            keys = self._find_keys(settings)
            put_in_force = self._prepare(settings)
        except (ConfigError, BadKey, BadCertificate) as error:
            self._log.error("reload_refused", reason=str(error), meaning="nothing has changed")
            return
        put_in_force()
        self._put_in_force(Terms(settings, keys))
        limits = settings.limits
        self._log.info("reloaded", allow=len(limits.allow), deny=len(limits.deny))
        if fixed := changes(settings, read):
            self._log.warning("restart_needed", changed=" ".join(sorted(fixed)))

    def _put_in_force(self, terms: Terms) -> None:
        changed = changes(self.in_force, terms.settings)
        if changed and changed <= LIVE:
            self._supervisor.put_in_force(terms.settings)
            self.in_force = terms.settings
        else:
            self._supervisor.replace(terms)

    def _keep_fixed(self, settings: Settings) -> Settings:
        kept: dict[str, Any] = {name: getattr(self.in_force, name) for name in _FIXED}
        form = {"format": self.in_force.log.format}
        return settings.model_copy(update={**kept, "log": settings.log.model_copy(update=form)})
