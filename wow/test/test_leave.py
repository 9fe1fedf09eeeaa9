"""The time between the signal to stop and the stop."""

from __future__ import annotations

import io
import os
import signal

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from wow.admin import health
from wow.admin.health import Check
from wow.leave import Leave, LeavingHealth
from wow.logs import make_logger


class Reactor(MemoryReactorClock):
    """Calls at once what a signal asks for."""

    def callFromThread(self, call: object, *_: object, **__: object) -> None:
        assert callable(call)
        call()


class LeaveTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor = Reactor()

    def leave(self, seconds: float) -> Leave:
        return Leave(self.reactor, seconds, make_logger(io.StringIO(), "info", "json"))


class Leaving(LeaveTestCase):
    def test_goes_on_for_a_while(self) -> None:
        leave = self.leave(5)
        leave.startService()
        self.assertFalse(leave.leaving)
        left = leave.stopService()
        self.assertTrue(leave.leaving)
        self.reactor.advance(4.9)
        self.assertNoResult(left)
        self.reactor.advance(0.2)
        self.successResultOf(left)

    def test_at_once(self) -> None:
        leave = self.leave(0)
        self.successResultOf(leave.stopService())
        self.assertTrue(leave.leaving)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_second_signal(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            left = self.leave(5).stopService()
            os.kill(os.getpid(), number)
            self.reactor.advance(0)
            self.successResultOf(left)

    def test_third_signal(self) -> None:
        """It may come after the time is over, and is nothing to this."""
        left = self.leave(5).stopService()
        self.reactor.advance(5)
        self.successResultOf(left)
        os.kill(os.getpid(), signal.SIGTERM)
        self.reactor.advance(0)


class Health(LeaveTestCase):
    """What is told of it meanwhile."""

    def setUp(self) -> None:
        super().setUp()
        self.trouble: str | None = None
        self.left = self.leave(5)
        parts = {"spent": Check(lambda: self.trouble, lambda: {"entries": 3})}
        self.health = LeavingHealth(health.Health(parts), self.left)

    def test_as_it_is(self) -> None:
        state = {"spent": {"entries": 3}}
        self.assertEqual(self.health.report(), (True, {"ready": True, "reasons": {}, **state}))

    def test_not_ready(self) -> None:
        """That is said with whatever else is wrong."""
        self.trouble = "full"
        self.left.stopService()
        ready, told = self.health.report()
        self.assertFalse(ready)
        self.assertEqual(
            told,
            {
                "ready": False,
                "reasons": {"spent": "full", "gate": "shutting down"},
                "spent": {"entries": 3},
            },
        )
