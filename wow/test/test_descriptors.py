"""Descriptors are shared out before there are clients; running out of them floods no log."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wow.descriptors import Sparing, raise_limit, room


class System:
    """The part of L{resource} that matters, for a process that is not this one."""

    RLIMIT_NOFILE = 7
    RLIM_INFINITY = -1

    def __init__(self, soft: int, hard: int, refuses: Exception | None = None) -> None:
        self.limits = (soft, hard)
        self._refuses = refuses

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == self.RLIMIT_NOFILE
        return self.limits

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        assert which == self.RLIMIT_NOFILE
        if self._refuses is not None:
            raise self._refuses
        self.limits = limits


class RaisingTheLimit(SynchronousTestCase):
    def kernel_limit(self, text: str) -> Path:
        file = Path(self.mktemp())
        file.write_text(text)
        return file

    def test_up_to_the_hard_limit(self) -> None:
        system = System(1024, 20_000)
        self.assertEqual(raise_limit(system), 20_000)
        self.assertEqual(system.limits, (20_000, 20_000))

    def test_as_high_as_it_goes(self) -> None:
        """Nothing is changed then."""
        system = System(4096, 4096, refuses=AssertionError())
        self.assertEqual(raise_limit(system), 4096)

    def test_no_hard_limit(self) -> None:
        """It is the kernel's then, and stays without bound for what this process runs."""
        system = System(1024, System.RLIM_INFINITY)
        self.assertEqual(raise_limit(system, self.kernel_limit("1048576\n")), 1_048_576)
        self.assertEqual(system.limits, (1_048_576, System.RLIM_INFINITY))

    def test_no_limit_at_all(self) -> None:
        system = System(System.RLIM_INFINITY, System.RLIM_INFINITY, refuses=AssertionError())
        self.assertEqual(raise_limit(system, self.kernel_limit("1048576\n")), 1_048_576)

    def test_kernel_does_not_say(self) -> None:
        """As many as every kernel grants are asked for, and never fewer than there are."""
        for file in (Path(self.mktemp()), self.kernel_limit("many")):
            for soft, raised in ((256, 10_240), (50_000, 50_000)):
                system = System(soft, System.RLIM_INFINITY)
                self.assertEqual(raise_limit(system, file), raised)

    def test_refused(self) -> None:
        """What the system refuses stays as it is."""
        for refusal in (ValueError("not allowed to raise maximum limit"), PermissionError()):
            self.assertEqual(raise_limit(System(1024, 20_000, refuses=refusal)), 1024)


class Room(SynchronousTestCase):
    def test_enough(self) -> None:
        self.assertEqual(room(limit=20_000, wanted=10_000, reserve=100), 10_000)

    def test_not_enough(self) -> None:
        self.assertEqual(room(limit=1024, wanted=10_000, reserve=100), 924)

    @given(st.integers(0), st.integers(1), st.integers(0))
    def test_at_least_one(self, limit: int, wanted: int, reserve: int) -> None:
        self.assertIn(room(limit, wanted, reserve), range(1, wanted + 1))


class SparingWords(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        self.sparing = Sparing(observer, self.clock.seconds, pause=10)
        self.port = Logger("twisted.internet.tcp.Port", observer=self.sparing)

    def said(self) -> list[str]:
        said = [formatEvent(event) for event in self.events]
        self.events.clear()
        return said

    def turn_away(self, strangers: int) -> None:
        """Say what Twisted does."""
        for number in range(strangers):
            self.port.info("EMFILE encountered; releasing reserved file descriptor.")
            self.port.info("EMFILE recovery: Closed socket from {address}", address=number)
            self.port.info("Re-reserving EMFILE recovery file descriptor.")

    def test_the_first_is_passed_on(self) -> None:
        """As a warning: somebody was not served."""
        self.turn_away(1000)
        (event,) = self.events
        self.assertEqual(event["log_level"], LogLevel.warn)
        self.assertIn("EMFILE encountered; releasing", formatEvent(event))

    def test_left_out_are_counted(self) -> None:
        """One more is passed on after the pause, and says how many were not."""
        self.turn_away(1)
        self.clock.advance(9.99)
        self.turn_away(1)
        self.clock.advance(0.01)
        self.turn_away(1)
        first, second = self.said()
        self.assertIn("(0 events like it left out before)", first)
        self.assertIn("(5 events like it left out before)", second)

    def test_clock_may_begin_anywhere(self) -> None:
        """Even where its times are below 0."""
        self.clock.rightNow = -1000.0
        self.sparing = Sparing(cast(ILogObserver, self.events.append), self.clock.seconds)
        self.port.observer = self.sparing
        self.turn_away(1)
        self.assertEqual(len(self.events), 1)

    def test_every_way_to_listen(self) -> None:
        unix = Logger("twisted.internet.unix.Port", observer=self.sparing)
        for _ in range(1000):
            unix.info("Could not accept new connection ({acceptError})", acceptError="EMFILE")
            self.turn_away(1)
        self.assertEqual(len(self.events), 1)

    def test_spare_descriptor_lost(self) -> None:
        """That is worse, and stays so."""
        spare = Logger("twisted.internet.tcp._FileDescriptorReservation", observer=self.sparing)
        failure = Failure(OSError())
        for _ in range(1000):
            spare.failure("Could not reserve", failure)
        (event,) = self.events
        self.assertEqual(event["log_level"], LogLevel.critical)
        self.assertIs(event["log_failure"], failure)

    def test_other_events(self) -> None:
        """They are passed on as they are."""
        other = Logger("twisted.internet.tcp.Client", observer=self.sparing)
        for number in range(100):
            other.debug("{number}", number=number)
        self.turn_away(1)
        self.assertEqual({event["log_level"] for event in self.events[:100]}, {LogLevel.debug})
        self.assertEqual(self.said()[:100], [str(number) for number in range(100)])
