"""
Connections that have more to say than there is time for take turns.

They go on one after the other, for a few milliseconds in each turn of the
event loop, however many of them there are; the rest of it is others'.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

_BUDGET = 0.004
"""Seconds in each turn of the event loop."""


class Turns:
    """A queue of those who wait for their turn."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._called = False

    def wait(self, go_on: Callable[[], None]) -> None:
        """
        Wait for a turn.

        @param go_on: is called when it has come.
        """
        self._waiting.append(go_on)
        if not self._called:
            self._call()

    def _call(self) -> None:
        self._called = True
        self._clock.callLater(0, self._serve)

    def _serve(self) -> None:
        end = self._clock.seconds() + _BUDGET
        try:
            # Who waits anew while others are served comes after all of them.
            for _ in range(len(self._waiting)):
                self._waiting.popleft()()
                if self._clock.seconds() >= end:
                    break
        finally:
            self._called = False
            if self._waiting:
                self._call()
