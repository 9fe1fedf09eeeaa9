"""Connections wait for their header, only so many of them and only for so long."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.proxy.waiting import WaitingRoom

PLACES, WITHIN = 3, 5.0


class Connection:
    """
    @ivar gone: why it had to give up, if it had to.
    """

    gone: str | None = None

    def __init__(self, until: float) -> None:
        self.until = until

    def give_up(self, reason: str) -> None:
        assert self.gone is None
        self.gone = reason


class Waited(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.room = WaitingRoom(PLACES, WITHIN, self.clock)

    def come(self) -> Connection:
        connection = Connection(self.clock.seconds() + WITHIN)
        self.room.enter(connection)
        return connection

    def test_until_the_time_is_over(self) -> None:
        connection = self.come()
        self.clock.advance(WITHIN - 0.001)
        self.assertIsNone(connection.gone)
        self.clock.advance(0.001)
        self.assertEqual(connection.gone, "timeout")
        self.assertEqual(len(self.room), 0)

    def test_each_from_when_it_came(self) -> None:
        first = self.come()
        self.clock.advance(1)
        second = self.come()
        self.clock.advance(WITHIN - 1)
        self.assertEqual((first.gone, second.gone), ("timeout", None))
        self.clock.advance(1)
        self.assertEqual(second.gone, "timeout")

    def test_no_longer_once_it_left(self) -> None:
        connection = self.come()
        self.assertTrue(self.room.leave(connection))
        self.assertFalse(self.room.leave(connection))
        self.clock.advance(WITHIN)
        self.assertIsNone(connection.gone)

    def test_the_one_longest_there_gives_way(self) -> None:
        first, *others = [self.come() for _ in range(PLACES + 1)]
        self.assertEqual(first.gone, "crowded")
        self.assertEqual({other.gone for other in others}, {None})
        self.assertFalse(self.room.leave(first))

    def test_one_timer_for_all_and_none_for_nobody(self) -> None:
        for _ in range(PLACES):
            self.room.leave(self.come())
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(WITHIN)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Rooms(RuleBasedStateMachine):
    """Whoever comes, leaves and waits, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.room = WaitingRoom(PLACES, WITHIN, self.clock)
        self.connections: list[Connection] = []

    @rule()
    def come(self) -> None:
        connection = Connection(self.clock.seconds() + WITHIN)
        self.connections.append(connection)
        self.room.enter(connection)

    @rule(which=st.integers(0, PLACES))
    def leave(self, which: int) -> None:
        if which < len(self.connections):
            connection = self.connections.pop(which)
            assert self.room.leave(connection) is (connection.gone is None)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.5, WITHIN, 7.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def those_who_came_last_and_not_too_long_ago_wait(self) -> None:
        now = self.clock.seconds()
        waiting = [each for each in self.connections if each.gone is None]
        assert len(waiting) == len(self.room) <= PLACES
        assert all(each.until > now for each in waiting)
        assert waiting == self.connections[len(self.connections) - len(waiting) :]
        assert all(each.until <= now for each in self.connections if each.gone == "timeout")
        if waiting:
            (timer,) = self.clock.getDelayedCalls()
            assert timer.getTime() <= waiting[0].until


class AnyOrder(SynchronousTestCase):
    def test_rooms(self) -> None:
        run_state_machine_as_test(Rooms)
