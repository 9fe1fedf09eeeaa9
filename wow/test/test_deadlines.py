"""Deadlines are kept, never too early and hardly too late, on one timer."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.deadlines import TICK, Deadline, Deadlines

HALF = TICK / 2


class Kept(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.called: list[str] = []

    def set(self, seconds: float, name: str = "call") -> Deadline:
        return self.deadlines.callLater(seconds, lambda: self.called.append(name))

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / HALF)):
            self.clock.advance(HALF)

    def test_when_its_time_has_come(self) -> None:
        self.set(3)
        self.pass_time(3 - HALF)
        self.assertEqual(self.called, [])
        self.pass_time(HALF)
        self.assertEqual(self.called, ["call"])

    def test_never_too_early(self) -> None:
        self.clock.advance(HALF)
        self.set(1)
        self.pass_time(1)
        self.assertEqual(self.called, [])
        self.pass_time(HALF)
        self.assertEqual(self.called, ["call"])

    def test_once(self) -> None:
        self.set(1)
        self.pass_time(10)
        self.assertEqual(self.called, ["call"])

    def test_earlier_ones_first(self) -> None:
        self.set(2, "second")
        self.set(1, "first")
        self.clock.advance(3)
        self.assertEqual(self.called, ["first", "second"])

    def test_cancelled(self) -> None:
        self.set(1).cancel()
        self.pass_time(2)
        self.assertEqual(self.called, [])

    def test_moved(self) -> None:
        deadline = self.set(1)
        self.pass_time(0.5)
        deadline.reset(2)
        self.pass_time(2 - HALF)
        self.assertEqual(self.called, [])
        self.pass_time(HALF)
        self.assertEqual(self.called, ["call"])

    def test_cancelled_when_it_is_over(self) -> None:
        deadline = self.set(1)
        self.pass_time(1)
        deadline.cancel()
        self.assertEqual(self.called, ["call"])

    def test_set_again_when_it_is_over(self) -> None:
        deadline = self.set(1)
        self.pass_time(1)
        deadline.reset(1)
        self.pass_time(1)
        self.assertEqual(self.called, ["call", "call"])

    def test_those_of_the_same_tick_can_stop_each_other(self) -> None:
        deadlines: list[Deadline] = []

        def call() -> None:
            self.called.append("call")
            for other in deadlines:
                other.cancel()

        deadlines += [self.deadlines.callLater(1, call) for _ in range(3)]
        self.pass_time(2)
        self.assertEqual(self.called, ["call"])

    def test_bug_in_one_keeps_no_other(self) -> None:
        for _ in range(3):
            self.deadlines.callLater(1, lambda: 1 / 0)
        self.set(1)
        self.pass_time(1)
        self.assertEqual(self.called, ["call"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_one_timer_for_all(self) -> None:
        for number in range(100):
            self.set(number)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_none_while_there_is_no_deadline(self) -> None:
        self.set(100).cancel()
        self.pass_time(TICK)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 60)), max_size=30))
    def test_within_a_tick(self, plan: list[tuple[int, int]]) -> None:
        """Whatever is set whenever, in eighths of a second."""
        clock = Clock()
        deadlines = Deadlines(clock)
        late: list[float] = []

        def note(due: float) -> None:
            late.append(clock.seconds() - due)

        for pause, seconds in plan:
            for _ in range(pause):
                clock.advance(HALF)
            due = clock.seconds() + seconds * HALF
            deadlines.callLater(seconds * HALF, partial(note, due))
        for _ in range(70):
            clock.advance(HALF)
        self.assertEqual(len(late), len(plan))
        self.assertTrue(all(0 <= each <= TICK for each in late), late)
