"""Spans that a test looks at, in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.trace import Tracer


class Spans(SpanProcessor):
    """
    Keeps spans.

    @ivar begun: every one.
    @ivar ended: those that are over.
    """

    def __init__(self) -> None:
        self.begun: list[Span] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.begun.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)

    def clear(self) -> None:
        self.begun.clear()
        self.ended.clear()

    def tracer(self) -> Tracer:
        """What makes them."""
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self)
        return provider.get_tracer("test")

    def wholes(self) -> list[ReadableSpan]:
        """The exchanges that are over."""
        return [span for span in self.ended if span.name == "exchange"]

    def stages(self, whole: ReadableSpan) -> list[ReadableSpan]:
        """The stages of an exchange that are over, in order."""
        number = whole.context.span_id
        return [span for span in self.ended if span.parent and span.parent.span_id == number]

    def outline(self) -> list[tuple[str, list[str]]]:
        """How each exchange ended, and its stages."""
        return [
            (str(told(whole)["wow.outcome"]), [span.name for span in self.stages(whole)])
            for whole in self.wholes()
        ]


def told(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of a span."""
    return dict(span.attributes or {})
