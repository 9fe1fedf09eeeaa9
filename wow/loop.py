"""
The event loop's time: how long each turn keeps everybody else waiting.

A turn is what the loop does between two waits for events. The loop is found
busy by the clock, so time in which another process had the core counts too:
whoever waits, waits for that as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from wow.lane import Detour, Lane
from wow.spread import Spread

_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)


class LoopMeter(Collector):
    """Measures the turns of a reactor that waits by epoll or poll."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: a clock that is never set. Asked twice a turn.
        """
        self._seconds = seconds
        self._turns = Spread(*_BOUNDS)

    @property
    def busy(self) -> float:
        """
        Seconds that the loop was busy since it was first seen to wait. The
        turn under way counts when it is over.
        """
        return self._turns.sum

    def measured(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        """
        A poller's C{poll}, measured: what is between its calls are turns.

        @param wait: takes a time-out and, if it is epoll's, how many events to give at once.
        """
        seconds, observe = self._seconds, self._turns.observe
        woke: float | None = None

        def poll(*arguments: float | None) -> Any:
            nonlocal woke
            if woke is not None:
                observe(seconds() - woke)
            try:
                return wait(*arguments)
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


def attach(reactor: Any, meter: LoopMeter) -> Lane | Detour:
    """
    Measure a reactor from its next wait on, and make a lane for connections in its loop.

    @return: a L{Detour} if the reactor waits otherwise than by epoll or poll; it is then
        not measured.
    """
    poller = getattr(reactor, "_poller", None)
    if poller is None:
        return Detour(reactor)
    lane = Lane(poller, reactor)
    reactor._poller = _Poller(poller, lane.served(meter.measured(poller.poll)))
    return lane


class _Poller:
    """A poller in the place of another, which it passes all but its waits on to."""

    def __init__(self, poller: Any, poll: Callable[..., Any]) -> None:
        self.poll = poll
        self._poller = poller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)
