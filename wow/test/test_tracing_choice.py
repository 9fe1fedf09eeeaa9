"""A stranger cannot choose what is traced, nor add to others' traces; who is believed can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from twisted.trial.unittest import SynchronousTestCase

from wow.networks import Networks
from wow.pow.token import pack
from wow.test.spans import Spans, told
from wow.test.test_wire import CONTEXT
from wow.tracing.choice import Choice

STRANGER = pack("192.0.2.7")
FRIEND = pack("198.51.100.7")
_, TRACE, SPAN, _ = CONTEXT.split("-")
NOT_SAMPLED = f"{CONTEXT[:-2]}00"


class Choosing(SynchronousTestCase):
    def setUp(self) -> None:
        self.spans = Spans()
        self.tosses: list[float] = []

    def choice(self, ratio: float) -> Choice:
        believed = Networks(["198.51.100.0/24"])
        return Choice(
            self.spans.tracer(), ratio, believed, (24, 48), lambda: self.tosses.pop(0), lambda: 7
        )

    def begin(
        self, address: bytes, traceparent: str | None, toss: float = 0.0, ratio: float = 0.5
    ) -> ReadableSpan | None:
        """The span of the exchange, if it is traced."""
        self.tosses = [toss]
        exchange = self.choice(ratio).begin(address, traceparent)
        if exchange is None:
            self.assertEqual(self.spans.begun, [])
            return None
        exchange.abandon()
        return self.spans.ended[-1]

    def chosen(
        self, address: bytes, traceparent: str | None, toss: float = 0.0, ratio: float = 0.5
    ) -> ReadableSpan:
        span = self.begin(address, traceparent, toss, ratio)
        assert span is not None
        return span


class Strangers(Choosing):
    def test_share(self) -> None:
        self.assertIsNone(self.begin(STRANGER, None, 0.5, ratio=0.5))
        self.assertIsNotNone(self.begin(STRANGER, None, 0.499, ratio=0.5))

    def test_none(self) -> None:
        self.assertIsNone(self.begin(STRANGER, None, 0.0, ratio=0.0))

    def test_all(self) -> None:
        self.assertIsNotNone(self.begin(STRANGER, None, 1 - 2**-53, ratio=1.0))

    def test_flag_does_not_matter(self) -> None:
        for context in (CONTEXT, NOT_SAMPLED):
            self.assertIsNone(self.begin(STRANGER, context, 0.5))
        for context in (CONTEXT, NOT_SAMPLED):
            self.assertIsNotNone(self.begin(STRANGER, context, 0.4))

    @given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
    def test_no_context_matters(self, trace: int, span: int, flags: int) -> None:
        """Such as one whose number a sampler by number would take."""
        self.spans.clear()
        context = f"00-{trace:032x}-{span:016x}-{flags:02x}"
        self.assertIsNone(self.begin(STRANGER, context, 0.5))
        self.assertNotEqual(self.chosen(STRANGER, context, 0.4).context.trace_id, trace)

    def test_context_is_named_and_not_continued(self) -> None:
        whole = self.chosen(STRANGER, CONTEXT)
        self.assertIsNone(whole.parent)
        self.assertNotEqual(f"{whole.context.trace_id:032x}", TRACE)
        (link,) = whole.links
        self.assertEqual(f"{link.context.trace_id:032x}", TRACE)
        self.assertEqual(f"{link.context.span_id:016x}", SPAN)

    def test_no_context(self) -> None:
        whole = self.chosen(STRANGER, None)
        self.assertIsNone(whole.parent)
        self.assertEqual(len(whole.links), 0)

    def test_no_address(self) -> None:
        """Whoever is behind a Unix socket is believed no more than others."""
        self.assertIsNone(self.begin(b"", CONTEXT, 0.5))

    def test_kind(self) -> None:
        whole = self.chosen(STRANGER, None)
        self.assertEqual(whole.kind, SpanKind.SERVER)
        self.assertEqual((whole.start_time, whole.end_time), (7, 7))

    def test_only_networks_are_told(self) -> None:
        for address, network in (
            ("192.0.2.7", "192.0.2.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ):
            whole = self.chosen(pack(address), None)
            self.assertEqual(told(whole)["client.address"], network)


class Friends(Choosing):
    def test_their_trace_goes_on(self) -> None:
        whole = self.chosen(FRIEND, CONTEXT, ratio=0.0)
        self.assertEqual(f"{whole.context.trace_id:032x}", TRACE)
        assert whole.parent is not None
        self.assertEqual(f"{whole.parent.span_id:016x}", SPAN)
        self.assertTrue(whole.parent.is_remote)
        self.assertEqual(len(whole.links), 0)

    def test_their_decision_counts(self) -> None:
        self.assertIsNone(self.begin(FRIEND, NOT_SAMPLED, 0.0, ratio=1.0))
        # Only the lowest of the flags is about this.
        self.assertIsNone(self.begin(FRIEND, f"{CONTEXT[:-2]}fe", 0.0, ratio=1.0))

    def test_without_a_context_they_are_strangers(self) -> None:
        self.assertIsNone(self.begin(FRIEND, None, 0.5))
        self.assertIsNone(self.chosen(FRIEND, None, 0.4).parent)
