"""
One exchange as a trace has it: a span for the whole, and one for each of its
stages.

A span says what was asked for, what it cost and how it ended. It never has a
token, a nonce, or more of an address than the network: traces are kept for
longer than logs are, and seen by more people.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import (
    Span,
    Status,
    StatusCode,
    Tracer,
    format_trace_id,
    set_span_in_context,
)
from structlog.contextvars import bound_contextvars

from wow import wire

RESOURCE = "wow.resource"
EFFORT = "wow.effort"
OUTCOME = "wow.outcome"

SERVED = "served"
REFUSED = "refused"
ABANDONED = "abandoned"
"""The outcomes; the last where the client left, or began another one."""


class Exchange:
    """
    An exchange that is traced. Its stages follow one another: each ends where
    the next begins, or with the whole.

    @ivar challenge: the token that was made in it, by which the solution is
        recognized. It stays here.
    """

    def __init__(self, tracer: Tracer, span: Span, now_ns: Callable[[], int]) -> None:
        """
        @param span: of the whole, begun.
        @param now_ns: the wall clock, nanoseconds since the Unix epoch.
        """
        self._tracer = tracer
        self._span = span
        self._context = set_span_in_context(span)
        self._now_ns = now_ns
        self._stage: Span | None = None
        self._over = False
        self.challenge: str | None = None

    def enter(self, stage: str) -> None:
        """A stage begins. It does not where nobody waits for it any more."""
        if self._over:
            return
        now = self._now_ns()
        if self._stage is not None:
            self._stage.end(now)
        self._stage = self._tracer.start_span(stage, self._context, start_time=now)

    def ask(self, resource: str) -> None:
        """It is about a resource that there is."""
        if not self._over:
            self._span.set_attribute(RESOURCE, resource)

    def charge(self, challenge: wire.Challenge) -> None:
        """It has its price."""
        self.challenge = challenge.challenge
        self._span.set_attribute(EFFORT, challenge.rounds * challenge.round_effort)

    def serve(self) -> None:
        """It is over: the client has what it paid for."""
        self._end(SERVED)

    def abandon(self) -> None:
        """It is over, as far as is known here: the client went on without it."""
        self._end(ABANDONED)

    def refuse(self, code: str) -> None:
        """It is over: it was refused, for the reason that the protocol calls so."""
        for span in (self._stage, self._span):
            if span is not None:
                span.set_attribute(ERROR_TYPE, code)
                span.set_status(Status(StatusCode.ERROR, code))
        self._end(REFUSED)

    def _end(self, outcome: str) -> None:
        self._over = True
        now = self._now_ns()
        if self._stage is not None:
            self._stage.end(now)
        self._span.set_attribute(OUTCOME, outcome)
        self._span.end(now)

    def logged(self) -> AbstractContextManager[None]:
        """Within this, log lines have the number of the trace."""
        trace_id = format_trace_id(self._span.get_span_context().trace_id)
        return bound_contextvars(trace_id=trace_id)
