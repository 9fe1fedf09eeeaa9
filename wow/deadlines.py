"""
Deadlines of many connections on one timer.

A timer of the reactor's for each connection costs several microseconds to
make and to cancel, and with most connections it never fires. Deadlines need
not be exact: here those of the same quarter of a second share a timer.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

TICK = 0.25
"""Seconds by which a deadline may be late."""

_NEVER = -1


class Deadline:
    """
    A call to make later: the part of an C{IDelayedCall} that C{TimeoutMixin} uses.

    @ivar tick: when.
    """

    __slots__ = ("_deadlines", "call", "tick")

    def __init__(self, deadlines: Deadlines, call: Callable[[], object], tick: int) -> None:
        self._deadlines = deadlines
        self.call = call
        self.tick = tick

    def cancel(self) -> None:
        """Do not call."""
        self._deadlines.leave(self)
        self.tick = _NEVER

    def reset(self, seconds: float) -> None:
        """Call so many seconds from now instead."""
        self._deadlines.leave(self)
        self.tick = self._deadlines.tick_in(seconds)
        self._deadlines.enter(self)


class Deadlines:
    """Calls to make later, never too early, and up to a C{TICK} late."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._log = Logger()
        # By their ticks, counted from the clock's zero.
        self._ticks: dict[int, set[Deadline]] = {}
        self._next: IDelayedCall | None = None

    def callLater(self, seconds: float, call: Callable[[], object]) -> Deadline:
        """Call something later."""
        deadline = Deadline(self, call, self.tick_in(seconds))
        self.enter(deadline)
        return deadline

    def tick_in(self, seconds: float) -> int:
        """The first tick that is so many seconds from now, or later."""
        return -int(-(self._clock.seconds() + seconds) // TICK)

    def enter(self, deadline: Deadline) -> None:
        """Keep one."""
        same = self._ticks.get(deadline.tick)
        if same is not None:
            same.add(deadline)
            return
        self._ticks[deadline.tick] = {deadline}
        if self._next is None:
            self._wait()

    def leave(self, deadline: Deadline) -> None:
        """Keep it no more."""
        same = self._ticks.get(deadline.tick)
        if same is not None:
            same.discard(deadline)

    def _wait(self) -> None:
        self._next = self._clock.callLater(TICK - self._clock.seconds() % TICK, self._strike)

    def _strike(self) -> None:
        self._next = None
        now = int(self._clock.seconds() // TICK)
        for tick in sorted(tick for tick, same in self._ticks.items() if tick <= now or not same):
            for deadline in self._ticks.pop(tick):
                # Another of the same tick may have cancelled or moved it.
                if deadline.tick == tick:
                    self._call(deadline)
        if self._ticks and self._next is None:
            self._wait()

    def _call(self, deadline: Deadline) -> None:
        deadline.tick = _NEVER
        try:
            deadline.call()
        except Exception:
            self._log.failure("Unhandled error")
