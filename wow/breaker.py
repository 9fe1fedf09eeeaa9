"""When something that failed may be asked again: a source of quotes, a server."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from twisted.application.internet import backoffPolicy
from twisted.internet.interfaces import IReactorTime


class State(StrEnum):
    """The state of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """
    A circuit breaker: keeps one source, or server, from being asked too often.

    Closed, the source rests after each attempt: after a success, for its
    interval, and after a failure for longer with each one in a row. With too
    many of these the breaker is open and the source rests for the cool-down;
    then it is half-open, for one attempt that closes it or opens it again.
    Whoever asks makes one attempt at a time, and only when L{ready}.
    """

    def __init__(
        self,
        clock: IReactorTime,
        jitter: Callable[[], float],
        interval: float = 0.0,
        threshold: int = 5,
        cool_down: float = 60.0,
    ) -> None:
        """
        @param jitter: gives the seconds to add to a rest after a failure, so
            that many servers do not come back at the same moment.
        @param interval: seconds to rest after a success.
        @param threshold: failures in a row that open the breaker.
        @param cool_down: seconds that it is open.
        """
        self._clock = clock
        self._interval = interval
        self._threshold = threshold
        self._cool_down = cool_down
        self._backoff = backoffPolicy(maxDelay=cool_down, jitter=jitter)
        self._failures = 0
        self._rests_until = clock.seconds()

    @property
    def rest(self) -> float:
        """Seconds until the next attempt may be made; 0 if it may be made now."""
        return max(0.0, self._rests_until - self._clock.seconds())

    def ready(self) -> bool:
        """Whether an attempt may be made now."""
        return not self.rest

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    @property
    def state(self) -> State:
        """Closed, open or half-open."""
        if self._failures < self._threshold:
            return State.CLOSED
        return State.HALF_OPEN if self.ready() else State.OPEN

    def succeeded(self) -> None:
        """An attempt succeeded."""
        self._failures = 0
        self._rest(self._interval)

    def failed(self) -> None:
        """An attempt failed."""
        self._failures += 1
        opens = self._failures >= self._threshold
        self._rest(self._cool_down if opens else self._backoff(self._failures - 1))

    def _rest(self, seconds: float) -> None:
        self._rests_until = self._clock.seconds() + seconds
