"""Those who wait go on one after the other, for a few milliseconds at a time in all."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.turns import Turns


class TakingTurns(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.served: list[str] = []

    def work(self, name: str, seconds: float = 0.0) -> Callable[[], None]:
        def go_on() -> None:
            self.served.append(name)
            self.clock.rightNow += seconds

        return go_on

    def turn(self) -> list[str]:
        """Who is served in one turn of the event loop."""
        self.served.clear()
        (call,) = self.clock.calls
        self.clock.calls.remove(call)
        call.func()
        return list(self.served)

    def test_not_at_once(self) -> None:
        self.turns.wait(self.work("a"))
        self.assertEqual(self.served, [])

    def test_in_the_order_in_which_they_came(self) -> None:
        for name in "abc":
            self.turns.wait(self.work(name))
        self.assertEqual(self.turn(), ["a", "b", "c"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_longer_than_a_few_milliseconds(self) -> None:
        for name in "abc":
            self.turns.wait(self.work(name, seconds=0.003))
        self.assertEqual(self.turn(), ["a", "b"])
        self.assertEqual(self.turn(), ["c"])

    def test_who_takes_long_is_served_all_the_same(self) -> None:
        self.turns.wait(self.work("a", seconds=10.0))
        self.turns.wait(self.work("b"))
        self.assertEqual([self.turn(), self.turn()], [["a"], ["b"]])

    def test_who_waits_anew_comes_last(self) -> None:
        def again() -> None:
            self.served.append("again")
            self.turns.wait(again)

        self.turns.wait(again)
        self.turns.wait(self.work("a"))
        self.assertEqual([self.turn(), self.turn()], [["again", "a"], ["again"]])

    def test_fault_of_one_does_not_stop_the_others(self) -> None:
        self.turns.wait(lambda: [][0])
        self.turns.wait(self.work("a"))
        self.assertRaises(IndexError, self.turn)
        self.assertEqual(self.turn(), ["a"])
