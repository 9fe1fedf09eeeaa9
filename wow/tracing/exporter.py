"""
Spans on their way out: in the reactor's turns, so many at a time and so many
waiting at most, so that a collector that is slow or gone costs spans alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from wow.http.errors import HttpFailed, describe
from wow.metrics import Tally
from wow.tracing.collector import Collector

MOST_WAITING = 2048
"""Spans that wait; they take some 2 KiB each. Beyond it new ones are dropped."""

BATCH = 64
"""Spans in a request. To encode them takes a millisecond, in which nothing else is done."""

PERIOD = 1.0
"""Seconds that spans wait for others to come along."""


class Exporter(SpanProcessor, Service):
    """Takes the spans that are over, and sends them to a collector."""

    def __init__(
        self,
        collector: Collector,
        clock: IReactorTime,
        backoff: Callable[[int], float],
        farewell: float,
        spans: Mapping[str, Tally],
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param backoff: how many seconds to rest after so many failures in a row, from 0.
        @param farewell: seconds that sending what is left may take at the end.
        @param spans: what is counted, by outcome: C{exported}, C{rejected},
            C{failed} and C{dropped}.
        """
        self._collector = collector
        self._clock = clock
        self._backoff = backoff
        self._farewell = farewell
        self._counts = spans
        self._log = log
        self._waiting: deque[ReadableSpan] = deque()
        self._failures = 0
        self._due: IDelayedCall | None = None
        self._sending: Deferred[bool] | None = None

    def on_end(self, span: ReadableSpan) -> None:
        """A span is over."""
        if not self.running or len(self._waiting) >= MOST_WAITING:
            self._counts["dropped"].count += 1
            return
        self._waiting.append(span)
        if self._sending is None and self._due is None:
            self._rest()
        elif len(self._waiting) == BATCH and self._due is not None and not self._failures:
            self._due.reset(0)

    def _rest(self) -> None:
        if self._failures:
            seconds = self._backoff(self._failures - 1)
        else:
            seconds = 0 if len(self._waiting) >= BATCH else PERIOD
        self._due = self._clock.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._due = None
        self._sending = self._send()
        self._sending.addCallback(self._go_on)

    def _go_on(self, sent: bool) -> bool:
        self._sending = None
        if self.running and self._waiting:
            self._rest()
        return sent

    def _send(self) -> Deferred[bool]:
        """
        Send a batch. If that fails it is lost: those that wait are as good.

        @return: a Deferred that fires with whether the collector has it.
        """
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        taken = maybeDeferred(self._collector.take, batch)
        return taken.addCallbacks(self._sent, self._not_sent, (len(batch),), {}, (len(batch),))

    def _sent(self, rejected: int, number: int) -> bool:
        self._counts["exported"].count += number - rejected
        self._counts["rejected"].count += rejected
        if self._failures:
            self._log.info("spans_exported_again", failures=self._failures)
        self._failures = 0
        return True

    def _not_sent(self, failure: Failure, number: int) -> bool:
        self._counts["failed"].count += number
        if not failure.check(HttpFailed):
            self._log.error("internal_error", exc_info=failure)
        elif not self._failures:
            self._log.warning("spans_not_exported", reason=describe(failure))
        self._failures += 1
        return False

    def stopService(self) -> Deferred[None]:
        """
        Send what is left.

        @return: a Deferred that fires when it is sent or given up.
        """
        super().stopService()
        if self._due is not None:
            self._due.cancel()
            self._due = None
        sending = Deferred.fromCoroutine(self._send_all())
        sending.addTimeout(self._farewell, self._clock)
        return sending.addBoth(lambda _: self._drop_all())

    async def _send_all(self) -> None:
        if self._sending is not None and not await self._sending:
            return
        while self._waiting and await self._send():
            pass

    def _drop_all(self) -> None:
        self._counts["dropped"].count += len(self._waiting)
        self._waiting.clear()
