"""What an operator sees: metrics and health, over HTTP, without a port."""

from __future__ import annotations

import json
from http.client import HTTPResponse
from io import BytesIO
from typing import Any

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from wow.admin.channel import Channel
from wow.admin.health import Check, Health
from wow.admin.lock import Lock
from wow.admin.site import make_site
from wow.config import Admin
from wow.metrics import Metrics

HERE = IPv4Address("TCP", "127.0.0.1", 40000)


def parse(answer: bytes) -> tuple[int, str, str]:
    """The status, the content type and the body of an answer that ends with the connection."""
    response = HTTPResponse(Said(answer))  # type: ignore[arg-type]
    response.begin()
    content_type = response.headers.get("content-type", "")
    return response.status, content_type, response.read().decode()


@frozen
class Said:
    """What a peer has said, as a socket gives it."""

    data: bytes

    def makefile(self, _: str) -> BytesIO:
        return BytesIO(self.data)


class Pages(SynchronousTestCase):
    def setUp(self) -> None:
        self.trouble: str | None = None
        self.metrics = Metrics()
        self.health = Health(
            {
                "spent": Check(lambda: self.trouble),
                "quotes": Check(lambda: None, lambda: {"lives_from": "collection"}),
            }
        )
        self.clock = Clock()
        self.lock = Lock(Admin(), {})
        self.site = make_site(self.metrics.registry, self.health, self.lock, self.clock, Resource())

    def ask(self, site: Site, path: str) -> tuple[Channel, StringTransport]:
        """Ask for a page as one does on this machine, and hang up at the end."""
        channel: Any = site.buildProtocol(HERE)
        channel.callLater = self.clock.callLater
        transport = StringTransport(HERE)
        channel.makeConnection(transport)
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        channel.dataReceived(request.encode())
        return channel, transport

    def get(self, path: str) -> tuple[int, str, str]:
        """The status, the content type and the body of a page."""
        return parse(self.ask(self.site, path)[1].value())

    def ready(self) -> tuple[int, dict[str, Any]]:
        status, content_type, body = self.get("/health/ready")
        self.assertEqual(content_type, "application/json")
        return status, json.loads(body)

    def test_live(self) -> None:
        status, content_type, body = self.get("/health/live")
        self.assertEqual((status, content_type), (200, "application/json"))
        self.assertEqual(json.loads(body), {"live": True})

    def test_ready(self) -> None:
        status, report = self.ready()
        self.assertEqual(status, 200)
        self.assertEqual(
            report, {"ready": True, "reasons": {}, "quotes": {"lives_from": "collection"}}
        )

    def test_not_ready(self) -> None:
        self.trouble = "full"
        status, report = self.ready()
        self.assertEqual(status, 503)
        self.assertEqual((report["ready"], report["reasons"]), (False, {"spent": "full"}))

    def test_metrics(self) -> None:
        self.metrics.requests.count += 1
        status, content_type, body = self.get("/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(content_type.startswith("text/plain"))
        self.assertIn('wow_requests_total{type="request"} 1.0', body)
        for name in ("process_cpu_seconds_total", "python_gc_objects_collected_total"):
            self.assertIn(name, body)

    def refreshed(self, path: str) -> tuple[Channel, StringTransport, Deferred[None]]:
        """A page that is brought up to date before it is shown, and when it is."""
        refreshing: Deferred[None] = Deferred()
        asked: list[bool] = []

        def refresh(metrics: bool) -> Deferred[None]:
            asked.append(metrics)
            return refreshing

        site = make_site(
            self.metrics.registry, self.health, self.lock, self.clock, Resource(), refresh
        )
        channel, transport = self.ask(site, path)
        self.assertEqual(transport.value(), b"")
        self.assertEqual(asked, [path == "/metrics"])
        return channel, transport, refreshing

    def test_shown_when_they_are_up_to_date(self) -> None:
        for path, text in (("/metrics", "wow_requests_total"), ("/health/ready", "true")):
            _, transport, refreshing = self.refreshed(path)
            refreshing.callback(None)
            self.assertIn(text, parse(transport.value())[2])
            self.assertTrue(transport.disconnecting)

    def test_whoever_has_gone_meanwhile_is_shown_nothing(self) -> None:
        channel, transport, refreshing = self.refreshed("/metrics")
        channel.connectionLost(Failure(ConnectionDone()))
        refreshing.callback(None)
        self.assertEqual(transport.value(), b"")

    def test_start_names_the_pages(self) -> None:
        status, content_type, body = self.get("/")
        self.assertEqual((status, content_type), (200, "text/html; charset=utf-8"))
        self.assertIn("/metrics", body)

    def test_what_the_start_is_made_of(self) -> None:
        for path, kind in (("/status.css", "text/css"), ("/status.js", "text/javascript")):
            status, content_type, body = self.get(path)
            self.assertEqual((status, content_type), (200, f"{kind}; charset=utf-8"))
            self.assertTrue(body)

    def test_no_other_page(self) -> None:
        for path in ("/x", "/health", "/health/x", "/metrics/x", "/health/live/x", "/metrics/"):
            self.assertEqual(self.get(path)[0], 404, path)

    def test_two_servers_count_apart(self) -> None:
        self.metrics.requests.count += 1
        self.assertEqual(
            Metrics().registry.get_sample_value("wow_requests_total", {"type": "request"}), 0
        )
