"""
Leaving a balancer: the time between the signal to stop and the stop itself.

A balancer asks every few seconds whether the server is ready. One that stopped
at once would reset connections that it is being sent in between.
"""

from __future__ import annotations

import signal
from typing import Any

from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed

from wow.admin.site import Reported


class Leave(Service):
    """
    Goes on for a while when the server is to stop, and is not ready in it: so
    it is the last to start, and the first to stop. A second signal cuts that short.

    @ivar leaving: whether the server is to stop.
    """

    leaving = False

    def __init__(self, reactor: Any, seconds: float, log: FilteringBoundLogger) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._log = log

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.leaving = True
        if not self._seconds:
            return succeed(None)
        self._log.info("leaving", within=self._seconds)
        self._left: Deferred[None] = Deferred()
        self._end = self._reactor.callLater(self._seconds, self._left.callback, None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._hurry))
        return self._left

    def _hurry(self) -> None:
        if self._end.active():
            self._end.reset(0)


class LeavingHealth:
    """The health of a server that is not ready when it is about to stop."""

    def __init__(self, health: Reported, leave: Leave) -> None:
        self._health = health
        self._leave = leave

    def report(self) -> tuple[bool, dict[str, Any]]:
        """See L{wow.admin.health.Health.report}."""
        ready, told = self._health.report()
        if not self._leave.leaving:
            return ready, told
        reasons = {**told["reasons"], "gate": "shutting down"}
        return False, {**told, "ready": False, "reasons": reasons}
