"""What an operator sees: metrics and health, over HTTP, rendered without a port."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import getChildForRequest
from twisted.web.server import NOT_DONE_YET
from twisted.web.test.requesthelper import DummyRequest

from wow.admin.health import Check, Health
from wow.admin.site import make_site
from wow.metrics import Metrics


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
        self.site = make_site(self.metrics.registry, self.health)

    def get(self, path: str, method: bytes = b"GET") -> tuple[int, str, str]:
        """The status, the content type and the body of a page."""
        request = DummyRequest(path.encode().lstrip(b"/").split(b"/"))
        request.method = method
        body = getChildForRequest(self.site.resource, request).render(request)
        content_type = request.responseHeaders.getRawHeaders(b"content-type", [b""])[0]
        return request.responseCode or 200, content_type.decode(), body.decode()

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

    def refreshed(self, path: str) -> tuple[DummyRequest, Deferred[None]]:
        """A page that is brought up to date before it is shown, and when it is."""
        refreshing: Deferred[None] = Deferred()
        asked: list[bool] = []

        def refresh(metrics: bool) -> Deferred[None]:
            asked.append(metrics)
            return refreshing

        site = make_site(self.metrics.registry, self.health, refresh)
        request = DummyRequest(path.encode().lstrip(b"/").split(b"/"))
        shown = getChildForRequest(site.resource, request).render(request)
        self.assertEqual((shown, request.written), (NOT_DONE_YET, []))
        self.assertEqual(asked, [path == "/metrics"])
        return request, refreshing

    def test_shown_when_they_are_up_to_date(self) -> None:
        for path, text in (("/metrics", b"wow_requests_total"), ("/health/ready", b"true")):
            request, refreshing = self.refreshed(path)
            refreshing.callback(None)
            self.assertIn(text, b"".join(request.written))
            self.assertEqual(request.finished, 1)

    def test_whoever_has_gone_meanwhile_is_shown_nothing(self) -> None:
        request, refreshing = self.refreshed("/metrics")
        request.processingFailed(Failure(ConnectionDone()))
        refreshing.callback(None)
        self.assertEqual((request.written, request.finished), ([], 0))

    def test_start_names_the_pages(self) -> None:
        status, _, body = self.get("/")
        self.assertEqual(status, 200)
        self.assertIn("/metrics", body)

    def test_no_other_page(self) -> None:
        for path in ("/x", "/health", "/health/x", "/metrics/x", "/health/live/x", "/metrics/"):
            self.assertEqual(self.get(path)[0], 404, path)

    def test_two_servers_count_apart(self) -> None:
        self.metrics.requests.count += 1
        self.assertEqual(
            Metrics().registry.get_sample_value("wow_requests_total", {"type": "request"}), 0
        )
