"""
A lane of its own for clients' sockets: served straight from the poller.

Before Twisted's loop reaches the owner of a socket it sets up a context for
the log and asks the socket who it is, for each event. That takes longer than
what an event is about here. So those that took this lane are served where the
events come in, and the loop sees only the others.
"""

from __future__ import annotations

from collections.abc import Callable
from select import EPOLLIN, EPOLLOUT
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

MOST_EVENTS = 64
"""
Sockets served in one turn. Twisted asks for all that are ready, and timers
would wait for ten thousand of them. The kernel gives those left over first in
the next turn, so it stays first come, first served.
"""


class Socket(Protocol):
    """What can take the lane. It deals with its own exceptions."""

    fileno: Callable[[], int]

    def ready(self, events: int) -> None:
        """Something happened: events as C{poll(2)} gives them."""


class Lane:
    """
    The part of an C{IReactorFDSet} that connections need, on the poller of a reactor.
    """

    def __init__(self, poller: Any, reactor: Any) -> None:
        """
        @param poller: an C{epoll} or C{poll} object, or what stands in its place.
        """
        self._register = poller.register
        self._modify = poller.modify
        self._unregister = poller.unregister
        self.callLater = reactor.callLater
        self._ready: dict[int, Callable[[int], None]] = {}
        self._awaited: dict[int, int] = {}
        self._doors: dict[int, Callable[[], None]] = {}

    def served(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        """
        A poller's C{poll} that serves the lane.

        @param wait: takes a time-out and, if it is epoll's, how many events to give at once.
        @return: the same, but gives only the events of others.
        """
        ready, doors = self._ready.get, self._doors

        def poll(timeout: float | None = None, most: int | None = None) -> Any:
            events = wait(timeout) if most is None else wait(timeout, MOST_EVENTS)
            knocking = doors if len(events) >= MOST_EVENTS else ()
            others = []
            for event in events:
                descriptor, what = event
                serve = ready(descriptor)
                if serve is not None:
                    serve(what)
                elif descriptor in doors:
                    knocking = doors
                else:
                    others.append(event)
            # After all others: whom they let in may have the descriptor of
            # one who was served, and left, just before. And in each turn that
            # is full, as the kernel would come round to the doors only after
            # all sockets that are ready.
            for answer in [*knocking.values()] if knocking else ():
                answer()
            return others

        return poll

    def add_door(self, descriptor: int, answer: Callable[[], None]) -> None:
        """
        Serve a listening socket.

        @param answer: is called when somebody may want to connect.
        """
        self._doors[descriptor] = answer
        self._register(descriptor, EPOLLIN)

    def remove_door(self, descriptor: int) -> None:
        """Serve it no more."""
        if self._doors.pop(descriptor, None):
            self._unregister(descriptor)

    def addReader(self, socket: Socket) -> None:
        self._await(socket, EPOLLIN)

    def addWriter(self, socket: Socket) -> None:
        self._await(socket, EPOLLOUT)

    def _await(self, socket: Socket, events: int) -> None:
        descriptor = socket.fileno()
        before = self._awaited.get(descriptor, 0)
        after = before | events
        if not before:
            self._ready[descriptor] = socket.ready
            self._register(descriptor, after)
        elif after != before:
            self._modify(descriptor, after)
        self._awaited[descriptor] = after

    def removeReader(self, socket: Socket) -> None:
        self._ignore(socket, EPOLLIN)

    def removeWriter(self, socket: Socket) -> None:
        self._ignore(socket, EPOLLOUT)

    def _ignore(self, socket: Socket, events: int) -> None:
        descriptor = socket.fileno()
        before = self._awaited.get(descriptor, 0)
        after = before & ~events
        if after == before:
            return
        if after:
            self._awaited[descriptor] = after
            self._modify(descriptor, after)
        else:
            self.forget(socket)
            self._unregister(descriptor)

    def forget(self, socket: Socket) -> None:
        """One is about to be closed, which is how the poller is told."""
        descriptor = socket.fileno()
        self._ready.pop(descriptor, None)
        self._awaited.pop(descriptor, None)


class Detour:
    """What a L{Lane} does, by way of a reactor that keeps its poller to itself."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._doors: dict[int, _Door] = {}
        self.callLater = reactor.callLater
        self.addReader = reactor.addReader
        self.addWriter = reactor.addWriter
        self.removeReader = reactor.removeReader
        self.removeWriter = reactor.removeWriter

    def add_door(self, descriptor: int, answer: Callable[[], None]) -> None:
        """See L{Lane.add_door}."""
        self._doors[descriptor] = _Door(descriptor, answer)
        self.addReader(self._doors[descriptor])

    def remove_door(self, descriptor: int) -> None:
        """See L{Lane.remove_door}."""
        if descriptor in self._doors:
            self.removeReader(self._doors.pop(descriptor))

    def forget(self, socket: Socket) -> None:
        """See L{Lane.forget}."""
        self.removeReader(socket)
        self.removeWriter(socket)


@implementer(IReadDescriptor)
class _Door:
    def __init__(self, descriptor: int, answer: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self.doRead = answer

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "door"

    def connectionLost(self, reason: Failure) -> None:
        pass
