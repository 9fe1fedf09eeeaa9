"""The turns of a reactor are measured."""

from __future__ import annotations

from select import EPOLLIN
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from wow.lane import Detour, Lane
from wow.loop import LoopMeter, attach


class Poller:
    """Waits for as long as it is told to, and notes what it was asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.asked: list[tuple[Any, ...]] = []
        self.ready = [(7, 1)]
        self.closed = False

    def poll(self, *arguments: Any) -> list[tuple[int, int]]:
        self.asked.append(arguments)
        self._clock.advance(arguments[0])
        if arguments[0] == 13:
            raise InterruptedError
        return list(self.ready)

    def register(self, descriptor: int, events: int) -> None:
        self.asked.append(("register", descriptor, events))

    def modify(self, descriptor: int, events: int) -> None:
        self.asked.append(("modify", descriptor, events))

    def unregister(self, descriptor: int) -> None:
        self.asked.append(("unregister", descriptor))

    def close(self) -> None:
        self.closed = True


class Reactor(Clock):
    def __init__(self, poller: Poller) -> None:
        super().__init__()
        self._poller: Any = poller


class Metered(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.poller = Poller(self.clock)
        self.reactor = Reactor(self.poller)
        self.meter = LoopMeter(self.clock.seconds)
        lane = attach(self.reactor, self.meter)
        assert isinstance(lane, Lane)
        self.lane = lane

    def turn(self, busy: float, wait: float = 1.0) -> None:
        self.clock.advance(busy)
        self.reactor._poller.poll(wait, 5)

    def sample(self, name: str, **labels: str) -> float | None:
        registry = CollectorRegistry()
        registry.register(self.meter)
        return registry.get_sample_value(f"wow_loop_turn_seconds_{name}", labels)


class Turns(Metered):
    def test_busy_between_waits(self) -> None:
        """What the loop does counts, what it waits does not."""
        self.turn(0)
        self.turn(busy=0.25, wait=3)
        self.turn(busy=0.5)
        self.assertEqual(self.meter.busy, 0.75)

    def test_before_the_first_wait(self) -> None:
        """The start is no turn: nobody could wait for it yet."""
        self.turn(busy=100)
        self.assertEqual((self.meter.busy, self.sample("count")), (0, 0))

    def test_turn_under_way(self) -> None:
        """It counts when it is over."""
        self.turn(0)
        self.clock.advance(0.5)
        self.assertEqual(self.meter.busy, 0)
        self.turn(0)
        self.assertEqual(self.meter.busy, 0.5)

    def test_wait_that_fails(self) -> None:
        """Its time is no turn's either."""
        self.turn(0)
        self.assertRaises(InterruptedError, self.turn, busy=0.25, wait=13)
        self.turn(busy=0.5)
        self.assertEqual(self.meter.busy, 0.75)

    def test_two_meters(self) -> None:
        """Each sees every turn."""
        other = LoopMeter(self.clock.seconds)
        attach(self.reactor, other)
        self.turn(0)
        self.turn(busy=0.5)
        self.assertEqual((self.meter.busy, other.busy), (0.5, 0.5))

    def test_what_the_lane_does_counts(self) -> None:
        self.lane.add_door(3, lambda: self.clock.advance(0.125))
        self.poller.ready = [(3, EPOLLIN)]
        self.turn(0)
        self.turn(0)
        self.assertEqual(self.meter.busy, 0.125)

    def test_reactor_without_a_poller(self) -> None:
        """There is nothing to measure, and that is said."""
        reactor: Any = MemoryReactorClock()
        self.assertIsInstance(attach(reactor, LoopMeter(self.clock.seconds)), Detour)


class Pollers(Metered):
    """A poller can be used as before."""

    def test_events(self) -> None:
        self.assertEqual(self.reactor._poller.poll(1.0, 64), [(7, 1)])
        self.assertEqual(self.poller.asked, [(1.0, 64)])

    def test_poll(self) -> None:
        """That of poll(2) takes no number of events."""
        self.reactor._poller.poll(1000)
        self.assertEqual(self.poller.asked, [(1000,)])

    def test_the_rest(self) -> None:
        self.reactor._poller.register(4, 1)
        self.reactor._poller.modify(4, 3)
        self.reactor._poller.unregister(4)
        self.reactor._poller.close()
        self.assertEqual(
            self.poller.asked, [("register", 4, 1), ("modify", 4, 3), ("unregister", 4)]
        )
        self.assertTrue(self.poller.closed)


class Exported(Metered):
    def test_histogram(self) -> None:
        """Turns by how long they were, at most; and their sum is the time busy."""
        self.turn(0)
        for busy in (0.0001, 0.0002, 0.03, 0.03125, 2.0):
            self.turn(busy)
        for bound, turns in (("0.0001", 1), ("0.00025", 2), ("0.025", 2), ("0.05", 4), ("0.5", 4)):
            self.assertEqual(self.sample("bucket", le=bound), turns, bound)
        self.assertEqual(self.sample("bucket", le="+Inf"), 5)
        self.assertEqual(self.sample("count"), 5)
        self.assertEqual(self.sample("sum"), self.meter.busy)
