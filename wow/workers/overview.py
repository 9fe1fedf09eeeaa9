"""What an operator sees of a server of many workers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from wow.workers.control import Report
from wow.workers.supervisor import Supervisor

_WITHIN = 1.0
"""Seconds that a worker has to say how it is, before it is done without."""


class Overview:
    """The health of all workers together, as it was when they were last asked."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._reports: list[Report | None] = []
        self._waiting: dict[bool, list[Deferred[None]]] = {True: [], False: []}

    def refresh(self, metrics: bool) -> Deferred[None]:
        """
        Ask all workers how they are.

        @param metrics: whether for their metrics too.
        @return: a Deferred that fires when they have answered, or should have.
        """
        refreshed: Deferred[None] = Deferred()
        self._waiting[metrics].append(refreshed)
        # Whoever asks while others wait, waits with them.
        if len(self._waiting[metrics]) == 1:
            asked = self._supervisor.ask(metrics, _WITHIN)
            asked.addCallback(self._answered, metrics)
        return refreshed

    def _answered(self, reports: list[Report | None], metrics: bool) -> None:
        self._reports = reports
        waiting, self._waiting[metrics] = self._waiting[metrics], []
        for refreshed in waiting:
            refreshed.callback(None)

    def report(self) -> tuple[bool, dict[str, Any]]:
        """See L{wow.admin.health.Health.report}. What is wrong with one worker is wrong."""
        reasons: dict[str, str] = {}
        for report in self._reports:
            if report is not None:
                reasons |= report.health["reasons"]
        serving = sum(report is not None for report in self._reports)
        if not self._supervisor.running:
            reasons["gate"] = "shutting down"
        elif not self._reports or serving < len(self._reports):
            reasons["workers"] = f"{serving} of {len(self._reports)} answer"
        return not reasons, {
            "ready": not reasons,
            "reasons": reasons,
            "workers": [report and report.health for report in self._reports],
        }
