"""
The connections that are open, and which of them gives way when there is no room.

Seats are taken by whoever comes. When all are taken, the connection that has
gone longest without a complete frame gives way to the newcomer; so a crowd of
silent sockets keeps nobody out. There are fewer seats for those that have not
sent a single frame, so that such a crowd does not drive out clients that are
busy solving.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Occupant(Protocol):
    """
    A connection.

    @ivar heard: when its last complete frame came, or else itself, in seconds.
    """

    heard: float

    def give_way(self) -> None:
        """Close, for a newcomer."""


_Occupant = TypeVar("_Occupant", bound=Occupant)


class Seats(Generic[_Occupant]):
    """So many places for connections."""

    def __init__(self, most: int, most_half_begun: int) -> None:
        """
        @param most: connections in all.
        @param most_half_begun: of those that have not sent a complete frame.
        """
        self._most = most
        self._most_half_begun = most_half_begun
        # Both with those first that were not heard of for longest.
        self._half_begun: OrderedDict[_Occupant, None] = OrderedDict()
        self._begun: OrderedDict[_Occupant, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._half_begun) + len(self._begun)

    def __iter__(self) -> Iterator[_Occupant]:
        return iter([*self._half_begun, *self._begun])

    @property
    def half_begun(self) -> int:
        """How many have not sent a complete frame."""
        return len(self._half_begun)

    def take(self, newcomer: _Occupant) -> None:
        """Seat a newcomer; another may have to give way."""
        if len(self._half_begun) >= self._most_half_begun:
            self._free(next(iter(self._half_begun)))
        elif len(self) >= self._most:
            self._free(self._longest_silent())
        self._half_begun[newcomer] = None

    def _longest_silent(self) -> _Occupant:
        first = [next(iter(line)) for line in (self._half_begun, self._begun) if line]
        return min(first, key=lambda occupant: occupant.heard)

    def _free(self, occupant: _Occupant) -> None:
        self.leave(occupant)
        occupant.give_way()

    def heard(self, occupant: _Occupant) -> None:
        """A complete frame came from one."""
        if occupant in self._begun:
            self._begun.move_to_end(occupant)
        elif occupant in self._half_begun:
            del self._half_begun[occupant]
            self._begun[occupant] = None

    def leave(self, occupant: _Occupant) -> None:
        """One is gone, perhaps for the second time."""
        self._begun.pop(occupant, None)
        self._half_begun.pop(occupant, None)
