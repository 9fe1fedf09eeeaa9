"""A collector of traces on loopback: takes OTLP over HTTP, and keeps it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import field, frozen
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.running import wait_until

Attributes = dict[str, Any]


@frozen
class Received:
    """
    A request that came.

    @ivar headers: by name, in lower case.
    """

    path: str
    headers: dict[str, str]
    body: bytes

    def decode(self) -> ExportTraceServiceRequest:
        return ExportTraceServiceRequest.FromString(self.body)


@frozen
class Trace:
    """
    The spans of an exchange.

    @ivar whole: the span of all of it.
    @ivar stages: the others, in order.
    """

    whole: Span
    stages: list[Span] = field(factory=list)

    @property
    def names(self) -> list[str]:
        return [stage.name for stage in self.stages]

    @property
    def outcome(self) -> str:
        return str(attributes(self.whole.attributes)["wow.outcome"])


class Collector:
    """
    Listens on a port that the kernel chose.

    @ivar received: what came.
    @ivar status: what it answers with.
    @ivar answers: is cleared to keep everybody waiting.
    """

    def __init__(self, port: int = 0) -> None:
        self.received: list[Received] = []
        self.status = 200
        self.answer = ExportTraceServiceResponse()
        self.answers = threading.Event()
        self.answers.set()
        self._server = _Server(("127.0.0.1", port), _make_handler(self))
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def spans(self) -> list[Span]:
        """All that came so far."""
        return [
            span
            for received in list(self.received)
            for resource in received.decode().resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def traces(self) -> list[Trace]:
        """The exchanges that are over, in the order in which they ended."""
        spans = self.spans()
        return [
            Trace(whole, [span for span in spans if span.parent_span_id == whole.span_id])
            for whole in spans
            if whole.name == "exchange"
        ]

    def wait_for(self, number: int) -> list[Trace]:
        """The exchanges, once there are so many."""
        wait_until(lambda: len(self.traces()) >= number)
        return self.traces()


def attributes(pairs: Iterator[KeyValue] | Any) -> Attributes:
    """Attributes as a mapping."""
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Those that are kept waiting are given up by their clients.
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        pass


def _make_handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            collector.answers.wait()
            if collector.status == 200:
                collector.received.append(Received(self.path, headers, body))
            answer = collector.answer.SerializeToString()
            self.send_response(collector.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
