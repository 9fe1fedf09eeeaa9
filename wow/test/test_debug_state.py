"""What is told of a process as it is just now: names and numbers, and no values."""

from __future__ import annotations

import gc
import sys
import threading
from functools import partial
from typing import Any

from twisted.internet.task import Clock, LoopingCall
from twisted.trial.unittest import SynchronousTestCase

from wow.debug import state
from wow.debug.allocations import Allocations, AlreadyTraced

SECRET = "hunter2"


class Reactor(Clock):
    """What a reactor waits for."""

    def getReaders(self) -> list[Any]:
        return [self, self, Connection("idle")]

    def getWriters(self) -> list[Any]:
        return []


class Connection:
    peer = SECRET

    def __init__(self, state: str) -> None:
        self.state = state

    def __repr__(self) -> str:
        return SECRET


def tick(secret: str) -> None:
    """Something to be called later."""


class Loop(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()

    def shown(self, *connections: Connection) -> str:
        said = state.reactor(self.reactor, connections)
        self.assertNotIn(SECRET, said)
        return said

    def test_connections_by_state(self) -> None:
        said = self.shown(*(Connection(each) for each in ("idle", "solving", "idle")))
        self.assertIn("clients' connections: 3\n         2  idle\n         1  solving\n", said)

    def test_readers_by_type(self) -> None:
        said = self.shown()
        self.assertIn("readers: 3\n         2  wow.test.test_debug_state.Reactor\n", said)
        self.assertIn("writers: 0\n", said)

    def test_delayed_calls_by_function_and_time(self) -> None:
        self.reactor.callLater(7, tick, SECRET)
        self.reactor.callLater(2, partial(tick, SECRET))
        self.reactor.callLater(3, lambda: None)
        loop = LoopingCall(tick, SECRET)
        loop.clock = self.reactor
        loop.start(5, now=False)
        said = self.shown()
        self.assertIn("delayed calls: 4\n         3  wow.test.test_debug_state.tick\n", said)
        times = [line.split() for line in said[said.index("the next") :].splitlines()[1:]]
        self.assertEqual([time for time, _ in times], ["2.000", "3.000", "5.000", "7.000"])

    def test_bounded(self) -> None:
        for _ in range(5000):
            self.reactor.callLater(1, tick, SECRET)
        self.assertLess(len(self.shown(*map(Connection, map(str, range(5000))))), 20_000)


class Threads(SynchronousTestCase):
    def test_each_with_its_stack(self) -> None:
        end = threading.Event()

        def wait(password: str) -> None:
            end.wait()

        other = threading.Thread(target=wait, args=(SECRET,), name="waiting")
        other.start()
        self.addCleanup(other.join)
        self.addCleanup(end.set)
        said = state.threads(sys._current_frames(), threading.enumerate())
        self.assertIn("\nwaiting\n", said)
        self.assertIn("Threads.test_each_with_its_stack", said)
        self.assertNotIn(SECRET, said)

    def test_one_that_python_does_not_know(self) -> None:
        said = state.threads({4711: sys._getframe()}, [])
        self.assertIn("4711, not one of Python's\n    Threads.test_one_that", said)


class Garbage(SynchronousTestCase):
    def test_objects_by_type(self) -> None:
        kept = [Connection("x") for _ in range(50_000)]
        said = state.garbage()
        name = "test_debug_state.Connection"
        (row,) = [line for line in said.splitlines() if line.endswith(name)]
        self.assertGreaterEqual(int(row.split()[0]), len(kept))
        self.assertIn(f"thresholds: {gc.get_threshold()}", said)
        self.assertNotIn(SECRET, said)
        self.assertLess(len(said.splitlines()), 70)


class Heap(SynchronousTestCase):
    def setUp(self) -> None:
        self.allocations = Allocations()
        self.allocations.start()
        self.addCleanup(self.allocations.drop)

    def test_what_is_kept_by_line(self) -> None:
        first = [bytes(1000) for _ in range(100)]
        self.allocations.look()
        second = [bytes(1000) for _ in range(300)]
        gone = [bytes(1000) for _ in range(500)]
        del gone
        said = self.allocations.show(self.allocations.stop())
        rows = [line.split() for line in said.splitlines() if line.count(__file__)]
        kept = {int(row[2]): row for row in rows[:2]}
        self.assertEqual({blocks // 100 * 100 for blocks in kept}, {len(first), len(second)})
        grew = [float(row[1]) for _, row in sorted(kept.items())]
        self.assertEqual(grew[0], 0)
        self.assertGreater(grew[1], 250)

    def test_one_at_a_time(self) -> None:
        self.assertRaises(AlreadyTraced, Allocations().start)
