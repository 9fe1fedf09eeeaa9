"""A collector of traces, asked by OTLP over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from wow import __version__
from wow.http.client import Client


class Collector:
    """Where spans go."""

    def __init__(self, client: Client, url: str, headers: Mapping[str, str]) -> None:
        """
        @param headers: sent with each request; may hold a secret.
        """
        self._client = client
        self._url = url
        self._headers = Headers({"User-Agent": [f"wow/{__version__}"]})
        for name, value in headers.items():
            self._headers.setRawHeaders(name, [value])
        self._headers.setRawHeaders("Content-Type", ["application/x-protobuf"])

    def take(self, spans: Sequence[ReadableSpan]) -> Deferred[int]:
        """
        Hand spans over, once.

        @return: a Deferred that fires with how many of them the collector did
            not want, or fails with L{wow.http.errors.HttpFailed}.
        """
        body = encode_spans(spans).SerializeToString()
        taken = self._client.request("POST", self._url, self._headers, body)
        return taken.addCallback(_rejected, len(spans))


def _rejected(answer: bytes, most: int) -> int:
    try:
        told = ExportTraceServiceResponse.FromString(answer)
    except DecodeError:
        # It took them, and says so in words of its own.
        return 0
    rejected: int = told.partial_success.rejected_spans
    return max(0, min(rejected, most))
