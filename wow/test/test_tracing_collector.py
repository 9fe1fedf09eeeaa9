"""What a collector is sent is OTLP, and what it answers is believed within bounds."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from wow.http.errors import HttpFailed
from wow.test.spans import Spans
from wow.tracing.collector import Collector

URL = "http://127.0.0.1:4318/v1/traces"


class FakeClient:
    """Notes what is requested, and answers what a test says."""

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = succeed(b"")

    def request(self, method: str, url: str, headers: Headers, body: bytes) -> Deferred[bytes]:
        self.asked = (method, url)
        self.headers = {
            name.decode().lower(): values[0].decode() for name, values in headers.getAllRawHeaders()
        }
        self.body = body
        return self.answer


class Taking(SynchronousTestCase):
    def setUp(self) -> None:
        self.client = FakeClient()
        client: Any = self.client
        headers = {"Authorization": "Bearer s3cr3t", "content-type": "text/plain"}
        self.collector = Collector(client, URL, headers)

    def take(self, number: int = 3) -> Deferred[int]:
        spans = Spans()
        tracer = spans.tracer()
        for index in range(number):
            tracer.start_span(f"span {index}").end()
        return self.collector.take(spans.ended)

    def rejected(self, answer: bytes) -> int:
        self.client.answer = succeed(answer)
        return self.successResultOf(self.take())

    def partly(self, rejected: int) -> bytes:
        partial = ExportTracePartialSuccess(rejected_spans=rejected)
        return ExportTraceServiceResponse(partial_success=partial).SerializeToString()

    def test_request(self) -> None:
        self.successResultOf(self.take())
        self.assertEqual(self.client.asked, ("POST", URL))
        self.assertEqual(self.client.headers["content-type"], "application/x-protobuf")
        self.assertEqual(self.client.headers["authorization"], "Bearer s3cr3t")
        self.assertTrue(self.client.headers["user-agent"].startswith("wow/"))

    def test_body(self) -> None:
        self.successResultOf(self.take())
        sent = ExportTraceServiceRequest.FromString(self.client.body)
        (resource,) = sent.resource_spans
        (scope,) = resource.scope_spans
        self.assertEqual([span.name for span in scope.spans], ["span 0", "span 1", "span 2"])

    def test_all_taken(self) -> None:
        for answer in (b"", self.partly(0), b"{}", b"\xff"):
            self.assertEqual(self.rejected(answer), 0)

    def test_some_rejected(self) -> None:
        self.assertEqual(self.rejected(self.partly(2)), 2)

    def test_impossible_numbers(self) -> None:
        self.assertEqual(self.rejected(self.partly(2**40)), 3)
        self.assertEqual(self.rejected(self.partly(-5)), 0)

    def test_failure(self) -> None:
        self.client.answer = fail(HttpFailed("no"))
        self.failureResultOf(self.take(), HttpFailed)
