"""The configuration read again, while the server runs."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel
from structlog.typing import FilteringBoundLogger

from wow.certificate import BadCertificate
from wow.config import ConfigError, Settings
from wow.outcomes import Outcomes
from wow.pow.keys import BadKey


class Reload:
    """
    Puts in force what can be without a restart: what is in L{LIVE}, and what is
    in the files of keys and certificates.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        prepare: Callable[[Settings], Callable[[], object]],
        outcomes: Outcomes,
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param settings: what the server was started with.
        @param load: reads them again.
        @param prepare: reads all that belongs to some settings, and gives what
            puts them in force and cannot fail.
        @param outcomes: is told what comes of it.
        """
        self._settings = settings
        self._load = load
        self._prepare = prepare
        self._outcomes = outcomes
        self._log = log

    def __call__(self) -> None:
        """
        Read it. If anything is wrong with it, that is logged, and all that was
        in force stays so.
        """
        try:
            settings = self._load()
            put_in_force = self._prepare(_merge(self._settings, settings))
        except (ConfigError, BadCertificate, BadKey) as error:
            self._log.error("reload_refused", reason=str(error), meaning="nothing has changed")
            self._outcomes.refused(str(error))
            return
        put_in_force()
        limits = settings.limits
        self._log.info("reloaded", allow=len(limits.allow), deny=len(limits.deny))
        changed = changes(self._settings, settings) - LIVE
        self._outcomes.accepted(changed)
        if changed:
            self._log.warning("restart_needed", changed=" ".join(sorted(changed)))


def together(
    *prepare: Callable[[Settings], Callable[[], object]],
) -> Callable[[Settings], Callable[[], object]]:
    """What prepares several things, so that all of them are put in force or none."""

    def prepare_all(settings: Settings) -> Callable[[], object]:
        prepared = [each(settings) for each in prepare]
        return lambda: [put_in_force() for put_in_force in prepared]

    return prepare_all


LISTS = frozenset(("limits.allow", "limits.deny", "proxy.networks"))
"""What workers can take as they are."""

_PRICE = ("effort", "floor", "ceiling", "load", "period", "rounds")
_LIMITS = (
    "client_connections",
    "connection_rate",
    "connection_burst",
    "challenge_rate",
    "challenge_burst",
    "failure_rate",
    "failure_burst",
    "exchanges",
    "frame",
    "idle",
    "lifetime",
    "linger",
)

LIVE = LISTS.union(
    ("keys.file", "log.level"),
    (f"pow.{key}" for key in _PRICE),
    (f"limits.{key}" for key in _LIMITS),
)
"""What can be put in force while a process runs."""


def _merge(before: Settings, after: Settings) -> Settings:
    """The settings before, with what is live of those after."""
    sections = {}
    for name in Settings.model_fields:
        live = [key.partition(".")[2] for key in LIVE if key.partition(".")[0] == name]
        if live:
            taken = {key: getattr(getattr(after, name), key) for key in live}
            sections[name] = getattr(before, name).model_copy(update=taken)
    return before.model_copy(update=sections)


def changes(before: Settings, after: Settings) -> set[str]:
    """The keys that have other values."""
    one, other = flat(before), flat(after)
    return {key for key in other if one[key] != other[key]}


def flat(settings: Settings) -> dict[str, object]:
    """All settings by their keys, such as C{pow.effort}."""
    sections = {name: getattr(settings, name) for name in Settings.model_fields}
    return {
        f"{name}.{key}" if key else name: value
        for name, section in sections.items()
        for key, value in (
            dict(section) if isinstance(section, BaseModel) else {"": section}
        ).items()
    }
