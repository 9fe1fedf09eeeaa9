"""
Which exchanges are traced, and as a part of what.

That costs the server something, so a stranger has no say in it: a toss of ours
decides, and not the flag in what he sends, nor the number of his trace, which
he could choose to fit. His trace is named in ours and is not continued either,
or anybody could add to traces of others. For those who are believed it is their
trace, and their decision.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from opentelemetry.context import Context
from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS
from opentelemetry.semconv.attributes.network_attributes import (
    NETWORK_PROTOCOL_NAME,
    NETWORK_TRANSPORT,
)
from opentelemetry.trace import Link, SpanKind, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from wow.pow.token import bind, text_of
from wow.tracing.exchange import Exchange

_propagator = TraceContextTextMapPropagator()


class Choice:
    """Chooses exchanges, and begins to trace them."""

    def __init__(
        self,
        tracer: Tracer,
        ratio: float,
        believed: Container[bytes],
        network_bits: tuple[int, int],
        chance: Callable[[], float],
        now_ns: Callable[[], int],
    ) -> None:
        """
        @param ratio: the share of strangers' exchanges to trace, 0 to 1.
        @param believed: addresses, packed, of clients whose trace contexts are believed.
        @param network_bits: how many bits of an IPv4 and of an IPv6 address
            are told.
        @param chance: gives numbers from 0 up to 1.
        @param now_ns: the wall clock, nanoseconds since the Unix epoch.
        """
        self._tracer = tracer
        self._ratio = ratio
        self._believed = believed
        self._network_bits = network_bits
        self._chance = chance
        self._now_ns = now_ns

    def begin(self, address: bytes, traceparent: str | None) -> Exchange | None:
        """
        A client begins an exchange.

        @param address: the client's, packed; empty where there is none.
        @param traceparent: what it is a part of, by its own account.
        @return: None if it is not traced.
        """
        if traceparent is not None and address in self._believed:
            return self._join(address, _read(traceparent))
        if self._chance() >= self._ratio:
            return None
        link = None if traceparent is None else get_current_span(_read(traceparent))
        links = [Link(link.get_span_context())] if link is not None else []
        return self._start(address, Context(), links)

    def _join(self, address: bytes, context: Context) -> Exchange | None:
        if not get_current_span(context).get_span_context().trace_flags.sampled:
            return None
        return self._start(address, context, [])

    def _start(self, address: bytes, context: Context, links: Sequence[Link]) -> Exchange:
        attributes = {
            NETWORK_PROTOCOL_NAME: "wow",
            NETWORK_TRANSPORT: "tcp" if address else "unix",
        }
        if address:
            attributes[CLIENT_ADDRESS] = text_of(bind(address, *self._network_bits)[1:])
        span = self._tracer.start_span(
            "exchange",
            context,
            SpanKind.SERVER,
            attributes,
            links,
            start_time=self._now_ns(),
        )
        return Exchange(self._tracer, span, self._now_ns)


def _read(traceparent: str) -> Context:
    return _propagator.extract({"traceparent": traceparent}, Context())
