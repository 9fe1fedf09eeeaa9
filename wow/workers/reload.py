"""The configuration read again, where workers serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from structlog.typing import FilteringBoundLogger

from wow.certificate import BadCertificate
from wow.config import ConfigError, Settings
from wow.outcomes import Outcomes
from wow.pow.keys import BadKey, KeyRing
from wow.reload import LISTS, changes
from wow.workers.control import Terms
from wow.workers.supervisor import Supervisor

_FIXED = ("listen", "admin", "workers")
"""What the parent itself does, and goes on doing as it did."""


class WorkersReload:
    """
    Puts in force what workers can take as they are, or else replaces them.
    They are also replaced when nothing has changed: perhaps what is in some
    file has.

    @ivar in_force: what workers serve by.
    """

    def __init__(
        self,
        terms: Terms,
        load: Callable[[], Settings],
        find_keys: Callable[[Settings], KeyRing],
        prepare: Callable[[Settings], Callable[[], object]],
        supervisor: Supervisor,
        outcomes: Outcomes,
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param terms: what the server was started with.
        @param load: reads them again.
        @param find_keys: reads the keys that they name.
        @param prepare: reads what is the parent's own of them, and gives what
            puts it in force and cannot fail.
        @param outcomes: is told what comes of it.
        """
        self.in_force = terms
        self._load = load
        self._find_keys = find_keys
        self._prepare = prepare
        self._supervisor = supervisor
        self._outcomes = outcomes
        self._restart_needed: set[str] = set()
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
            self._outcomes.refused(str(error))
            return
        put_in_force()
        self._restart_needed = changes(settings, read)
        self._put_in_force(Terms(settings, keys))
        limits = settings.limits
        self._log.info("reloaded", allow=len(limits.allow), deny=len(limits.deny))
        if fixed := self._restart_needed:
            self._log.warning("restart_needed", changed=" ".join(sorted(fixed)))

    def took_over(self, terms: Terms) -> None:
        """New workers serve by these."""
        self.in_force = terms
        self._outcomes.accepted(self._restart_needed)

    def called_off(self, reason: str) -> None:
        """New workers could not start, and the old ones go on."""
        self._outcomes.refused(reason)

    def _put_in_force(self, terms: Terms) -> None:
        changed = changes(self.in_force.settings, terms.settings)
        same_keys = terms.keys.keys == self.in_force.keys.keys
        if changed and changed <= LISTS and same_keys:
            self._supervisor.put_in_force(terms.settings)
            self.took_over(terms)
        else:
            self._supervisor.replace(terms)

    def _keep_fixed(self, settings: Settings) -> Settings:
        kept: dict[str, Any] = {name: getattr(self.in_force.settings, name) for name in _FIXED}
        form = {"format": self.in_force.settings.log.format}
        return settings.model_copy(update={**kept, "log": settings.log.model_copy(update=form)})
