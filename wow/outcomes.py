"""What came of reading the configuration again, as operators see it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from wow.admin.site import Reported


class Outcomes:
    """
    Keeps count of the reloads of a server, and what came of the last one.
    """

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float]) -> None:
        """
        @param now: the wall clock, seconds since the Unix epoch.
        """
        self._now = now
        self._number = 0
        self._last: dict[str, Any] = {}
        self._reloads = Counter(
            "wow_reloads",
            "Times that the configuration was read again, by outcome.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("accepted", "refused"):
            self._reloads.labels(outcome)
        self._successful = Gauge(
            "wow_reload_successful",
            "0 if the last reload was refused, so that what is in force is not what is in the "
            "files; else 1.",
            registry=registry,
        )
        self._successful.set(1)
        self._read = Gauge(
            "wow_configuration_timestamp_seconds",
            "When the configuration in force was read: at the start, or by the last reload that "
            "was accepted.",
            registry=registry,
        )
        self._read.set(now())

    def accepted(self, restart_needed: Iterable[str]) -> None:
        """
        It is in force.

        @param restart_needed: the keys that have changed and are not.
        """
        self._tell("accepted", restart_needed=sorted(restart_needed))
        self._successful.set(1)
        self._read.set(self._now())

    def refused(self, reason: str) -> None:
        """It is not, and the old one stays."""
        self._tell("refused", reason=reason)
        self._successful.set(0)

    def _tell(self, outcome: str, **more: Any) -> None:
        self._number += 1
        self._reloads.labels(outcome).inc()
        at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds")
        self._last = {"outcome": outcome, "at": at, **more}

    def report(self) -> dict[str, Any]:
        """How many there were, and what came of the last one; fit for JSON."""
        return {"number": self._number, **self._last}


class ReloadingHealth:
    """
    The health of a server, with what came of the last reload, and the process
    that does it: all that C{wow reload} needs to know.
    """

    def __init__(self, health: Reported, outcomes: Outcomes) -> None:
        self._health = health
        self._outcomes = outcomes

    def report(self) -> tuple[bool, dict[str, Any]]:
        """See L{wow.admin.health.Health.report}."""
        ready, told = self._health.report()
        return ready, {**told, "pid": os.getpid(), "reload": self._outcomes.report()}
