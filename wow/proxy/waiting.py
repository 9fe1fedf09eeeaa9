"""Connections whose header has not come yet: only so many, and each only for so long."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, Protocol

from twisted.internet.interfaces import IReactorTime


class Waiting(Protocol):
    """A connection without its header."""

    @abstractmethod
    def give_up(self, reason: Literal["timeout", "crowded"]) -> None:
        """It has waited for too long, or gives way to another."""


class WaitingRoom:
    """
    Where connections wait for their header. All may wait for the same time,
    so they leave in the order that they came in, and one timer will do.
    """

    def __init__(self, places: int, within: float, clock: IReactorTime) -> None:
        """
        @param places: of connections; when all are taken, the newcomer gets
            that of the one that has waited for longest.
        @param within: seconds for a header to come.
        """
        self._places = places
        self._within = within
        self._clock = clock
        # When each must have left, in seconds; the first to come stands first.
        self._until: dict[Waiting, float] = {}
        self._timed = False

    def __len__(self) -> int:
        return len(self._until)

    def enter(self, connection: Waiting) -> None:
        """A connection waits, until it L{leave}s or is told to give up."""
        if len(self._until) >= self._places:
            self._send_away(next(iter(self._until)), "crowded")
        self._until[connection] = self._clock.seconds() + self._within
        if not self._timed:
            self._look_after(self._within)

    def leave(self, connection: Waiting) -> bool:
        """A connection waits no longer; say whether it did."""
        return self._until.pop(connection, None) is not None

    def _send_away(self, connection: Waiting, reason: Literal["timeout", "crowded"]) -> None:
        del self._until[connection]
        connection.give_up(reason)

    def _look_after(self, seconds: float) -> None:
        self._timed = True
        self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timed = False
        now = self._clock.seconds()
        for connection, until in list(self._until.items()):
            if until > now:
                self._look_after(until - now)
                break
            self._send_away(connection, "timeout")
