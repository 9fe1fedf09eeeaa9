"""Sockets that took the lane are served from the poller; the loop sees only the others."""

from __future__ import annotations

from collections.abc import Callable
from select import EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.lane import MOST_EVENTS, Detour, Lane


class Poller:
    """
    @ivar registered: what is awaited, by descriptor.
    @ivar asked: what each poll was asked for.
    @ivar events: what the next one gives.
    """

    def __init__(self) -> None:
        self.registered: dict[int, int] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.events: list[tuple[int, int]] = []

    def register(self, descriptor: int, events: int) -> None:
        assert descriptor not in self.registered
        self.registered[descriptor] = events

    def modify(self, descriptor: int, events: int) -> None:
        assert descriptor in self.registered
        self.registered[descriptor] = events

    def unregister(self, descriptor: int) -> None:
        del self.registered[descriptor]

    def poll(self, *arguments: Any) -> list[tuple[int, int]]:
        self.asked.append(arguments)
        return list(self.events)


class Socket:
    """Notes in a common list what happened to it."""

    def __init__(self, descriptor: int, seen: list[Any]) -> None:
        self.fileno = lambda: descriptor
        self._seen = seen
        self.then: Callable[[], object] = lambda: None

    def ready(self, events: int) -> None:
        self._seen.append((self.fileno(), events))
        self.then()


class InLane(SynchronousTestCase):
    def setUp(self) -> None:
        self.poller = Poller()
        self.lane = Lane(self.poller, Clock())
        self.seen: list[Any] = []

    def socket(self, descriptor: int = 7) -> Socket:
        return Socket(descriptor, self.seen)

    def poll(self, *events: tuple[int, int], most: int | None = 5) -> Any:
        self.poller.events = list(events)
        wait = self.lane.served(self.poller.poll)
        return wait(1.0) if most is None else wait(1.0, most)


class Serving(InLane):
    def test_is_told_what_happened(self) -> None:
        self.lane.addReader(self.socket())
        self.assertEqual(self.poll((7, EPOLLIN | EPOLLHUP)), [])
        self.assertEqual(self.seen, [(7, EPOLLIN | EPOLLHUP)])

    def test_others_are_left_to_the_loop(self) -> None:
        self.lane.addReader(self.socket())
        self.assertEqual(self.poll((3, EPOLLIN), (7, EPOLLIN), (4, EPOLLOUT)), [(3, 1), (4, 4)])

    def test_one_that_left_meanwhile_is_not_served(self) -> None:
        first, second = self.socket(7), self.socket(8)
        self.lane.addReader(first)
        self.lane.addReader(second)
        first.then = lambda: self.lane.forget(second)
        self.poll((7, EPOLLIN), (8, EPOLLIN))
        self.assertEqual(self.seen, [(7, EPOLLIN)])

    def test_no_more_events_than_others_can_wait_for(self) -> None:
        self.poll(most=10_000)
        self.assertEqual(self.poller.asked, [(1.0, MOST_EVENTS)])

    def test_no_fewer_than_there_are_in_the_lane(self) -> None:
        """The loop asks for as many as it knows of itself."""
        self.poll(most=1)
        self.assertEqual(self.poller.asked, [(1.0, MOST_EVENTS)])

    def test_poll(self) -> None:
        """That of poll(2) takes no number of events."""
        self.poll(most=None)
        self.assertEqual(self.poller.asked, [(1.0,)])


class Awaiting(InLane):
    def test_reading_and_writing(self) -> None:
        socket = self.socket()
        for change, expected in (
            (self.lane.addReader, {7: EPOLLIN}),
            (self.lane.addReader, {7: EPOLLIN}),
            (self.lane.addWriter, {7: EPOLLIN | EPOLLOUT}),
            (self.lane.removeReader, {7: EPOLLOUT}),
            (self.lane.removeReader, {7: EPOLLOUT}),
            (self.lane.removeWriter, {}),
            (self.lane.removeWriter, {}),
        ):
            change(socket)
            self.assertEqual(self.poller.registered, expected)

    def test_who_awaits_nothing_is_not_served(self) -> None:
        socket = self.socket()
        self.lane.addReader(socket)
        self.lane.removeReader(socket)
        self.assertEqual(self.poll((7, EPOLLIN)), [(7, EPOLLIN)])
        self.assertEqual(self.seen, [])

    def test_closed_and_its_descriptor_used_again(self) -> None:
        """The kernel forgets a descriptor that is closed; so does the lane."""
        self.lane.addReader(self.socket())
        self.lane.forget(self.socket())
        self.poller.registered.clear()
        self.lane.addReader(self.socket())
        self.assertEqual(self.poller.registered, {7: EPOLLIN})

    @given(st.lists(st.tuples(st.integers(5, 7), st.sampled_from("rRwWc")), max_size=40))
    def test_poller_awaits_what_the_sockets_do(self, changes: list[tuple[int, str]]) -> None:
        poller = Poller()
        lane = Lane(poller, Clock())
        awaited: dict[int, int] = {}
        for descriptor, change in changes:
            socket, before = self.socket(descriptor), awaited.get(descriptor, 0)
            act, after = {
                "r": (lane.addReader, before | EPOLLIN),
                "R": (lane.removeReader, before & ~EPOLLIN),
                "w": (lane.addWriter, before | EPOLLOUT),
                "W": (lane.removeWriter, before & ~EPOLLOUT),
                "c": (lane.forget, 0),
            }[change]
            act(socket)
            if change == "c":
                poller.registered.pop(descriptor, None)
            awaited[descriptor] = after
            self.assertEqual(poller.registered, {fd: what for fd, what in awaited.items() if what})


class Doors(InLane):
    def setUp(self) -> None:
        super().setUp()
        self.lane.add_door(3, lambda: self.seen.append("newcomer"))

    def test_somebody_knocks(self) -> None:
        self.assertEqual(self.poller.registered, {3: EPOLLIN})
        self.assertEqual(self.poll((3, EPOLLIN)), [])
        self.assertEqual(self.seen, ["newcomer"])

    def test_newcomers_come_last(self) -> None:
        """One may get the descriptor of a connection that was lost in the same turn."""
        self.lane.addReader(self.socket())
        self.poll((3, EPOLLIN), (7, EPOLLIN))
        self.assertEqual(self.seen, [(7, EPOLLIN), "newcomer"])

    def test_newcomers_are_looked_for_in_each_full_turn(self) -> None:
        self.poll(*((fd, EPOLLIN) for fd in range(10, 10 + MOST_EVENTS)))
        self.assertEqual(self.seen, ["newcomer"])

    def test_once_in_a_turn(self) -> None:
        self.poll(*((fd, EPOLLIN) for fd in range(3, 3 + MOST_EVENTS)))
        self.assertEqual(self.seen, ["newcomer"])

    def test_nobody_is_looked_for_in_other_turns(self) -> None:
        self.poll((10, EPOLLIN))
        self.assertEqual(self.seen, [])

    def test_closed(self) -> None:
        self.lane.remove_door(3)
        self.lane.remove_door(3)
        self.assertEqual(self.poller.registered, {})
        self.assertEqual(self.poll((3, EPOLLIN)), [(3, EPOLLIN)])


class Reactor(Clock):
    """The part of a reactor that watches descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard


class OtherReactors(SynchronousTestCase):
    """A reactor without a poller does the same, more slowly."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.detour = Detour(self.reactor)
        self.socket = Socket(7, [])

    def test_forgotten(self) -> None:
        self.detour.addReader(self.socket)
        self.detour.addWriter(self.socket)
        self.assertEqual((self.reactor.readers, self.reactor.writers), ({self.socket},) * 2)
        self.detour.forget(self.socket)
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))

    def test_doors(self) -> None:
        seen: list[str] = []
        self.detour.add_door(3, lambda: seen.append("newcomer"))
        (door,) = self.reactor.readers
        self.assertEqual(door.fileno(), 3)
        door.doRead()
        self.assertEqual(seen, ["newcomer"])
        self.detour.remove_door(3)
        self.detour.remove_door(3)
        self.assertEqual(self.reactor.readers, set())
