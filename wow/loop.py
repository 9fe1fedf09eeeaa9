"""
The event loop's time: how long each turn keeps everybody else waiting, and
that no turn does so for long.

A turn is what the loop does between two waits for events. The loop is found
busy by the clock, so time in which another process had the core counts too:
whoever waits, waits for that as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from select import EPOLLIN
from typing import Any

from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from wow.spread import Spread

MOST_EVENTS = 64
"""
Sockets served in one turn. Twisted asks for all that are ready, and timers
would wait for ten thousand of them. The kernel gives those left over first in
the next turn, so it stays first come, first served.
"""

_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)


class LoopMeter(Collector):
    """Measures the turns of a reactor that waits by epoll or poll."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: a clock that is never set. Asked twice a turn.
        """
        self._seconds = seconds
        self._turns = Spread(*_BOUNDS)
        self._doors: set[int] = set()

    @property
    def busy(self) -> float:
        """
        Seconds that the loop was busy since it was first seen to wait. The
        turn under way counts when it is over.
        """
        return self._turns.sum

    def attach(self, reactor: Any) -> bool:
        """
        Measure a reactor from its next wait on; once only, however often this is called.

        @return: whether that is possible. If not, nothing is measured.
        """
        poller = getattr(reactor, "_poller", None)
        if poller is None:
            return False
        if not (isinstance(poller, _Poller) and poller.meter is self):
            reactor._poller = _Poller(poller, self)
        return True

    def watch(self, door: int) -> None:
        """
        Look at a listening socket in each turn that is full. The kernel would
        come round to it only after all sockets that are ready, so the more
        clients there are, the longer a new one would stand outside.

        @param door: its file descriptor.
        """
        self._doors.add(door)

    def measured(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        """
        A poller's C{poll}, measured: what is between its calls are turns.

        @param wait: takes a time-out and, if it is epoll's, how many events to give at once.
        """
        seconds, observe, doors = self._seconds, self._turns.observe, self._doors
        woke: float | None = None

        def poll(timeout: float | None = None, most: int | None = None) -> Any:
            nonlocal woke
            if woke is not None:
                observe(seconds() - woke)
            try:
                if most is None:
                    return wait(timeout)
                # In a call, min() would be a third of what all of this costs.
                events = wait(timeout, most if most < MOST_EVENTS else MOST_EVENTS)  # noqa: FURB136
                if len(events) == MOST_EVENTS:
                    events += [(door, EPOLLIN) for door in doors.difference(dict(events))]
                return events
            finally:
                woke = seconds()

        return poll

    def collect(self) -> Iterable[Metric]:
        yield HistogramMetricFamily(
            "wow_loop_turn_seconds",
            "How long the event loop was busy between two waits: what a timer waits at most.",
            buckets=self._turns.buckets,
            sum_value=self._turns.sum,
        )


class _Poller:
    """
    A poller in the place of another, which it passes everything on to.

    @ivar meter: who measures its waits.
    """

    def __init__(self, poller: Any, meter: LoopMeter) -> None:
        self.meter = meter
        self.poll = meter.measured(poller.poll)
        self._poller = poller
        # These are called for each connection, the rest once in a lifetime.
        self.register = poller.register
        self.modify = poller.modify
        self.unregister = poller.unregister

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)
