"""The status page, made of metrics and health that are handed to it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from twisted.trial.unittest import SynchronousTestCase

from wow.admin.status import render

READY: dict[str, Any] = {"ready": True, "reasons": {}}


class Page(HTMLParser):
    """What a page shows: its rows by their heads, all of its text, and the tags in it."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.rows: dict[str, str] = {}
        self.text = ""
        self.seen: list[str] = []
        self.bad: list[str] = []
        self._open = self._head = ""
        self.feed(html.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self._open = tag
        if tag == "td" and ("class", "bad") in attrs:
            self.bad.append(self._head)

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open == "th":
            self._head = data
        elif self._open == "td":
            self.rows[self._head] = data
        self._open = ""


class StatusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.registry = CollectorRegistry()

    def page(self, now: float = 0.0, **health: Any) -> Page:
        return Page(render(self.registry.collect(), READY | health, now))

    def gauge(self, name: str, value: float, **labels: str) -> None:
        gauge = Gauge(name, name, list(labels), registry=self.registry)
        (gauge.labels(**labels) if labels else gauge).set(value)

    def test_nothing_yet(self) -> None:
        page = self.page()
        self.assertEqual(page.rows["quotes"], "0")
        self.assertEqual(page.rows["a whole exchange takes, mean"], "—")
        self.assertIn("nobody was refused so far", page.text)
        self.assertIn("one process, without workers", page.text)

    def test_ready_or_why_not(self) -> None:
        self.assertIn("wow: ready", self.page().text)
        page = self.page(ready=False, reasons={"spent": "is full"})
        self.assertIn("wow: NOT ready", page.text)
        self.assertIn("not ready: spent: is full", page.text)

    def test_refused_by_stage_and_code_and_most_first(self) -> None:
        labels = ["stage", "code"]
        refusals = Gauge("wow_refusals_total", "", labels, registry=self.registry)
        refusals.labels("spend", "replayed").set(3)
        refusals.labels("issue", "rate_limited").set(1234)
        refusals.labels("frame", "malformed").set(0)
        rows = self.page().rows
        shown = [(head, text) for head, text in rows.items() if ": " in head]
        self.assertEqual(shown, [("issue: rate limited", "1,234"), ("spend: replayed", "3")])

    def test_source_in_trouble(self) -> None:
        self.gauge("wow_quote_source_state", 1, source="there", state="open")
        page = self.page()
        self.assertEqual(page.rows["from there"], "breaker open; 0 taken, 0 failed")
        self.assertEqual(page.bad.count("from there"), 1)

    def test_price_at_its_ceiling(self) -> None:
        self.gauge("wow_base_price_hashes", 2**20)
        self.gauge("wow_price_hashes", 2**24)
        self.gauge("wow_price_ceiling_hashes", 2**24)
        page = self.page()
        self.assertEqual(page.rows["asked of a client now"], "16,777,216")
        self.assertIn("asked of a client now", page.bad)

    def test_workers(self) -> None:
        workers = [READY, {"ready": False, "reasons": {"quotes": "none"}}, None]
        page = self.page(workers=workers)
        self.assertEqual(page.rows["worker 1"], "ready")
        self.assertEqual(page.rows["worker 2"], "not ready: quotes: none")
        self.assertEqual(page.rows["worker 3"], "not ready: does not answer")
        self.assertEqual([head for head in page.bad if "worker" in head], ["worker 2", "worker 3"])

    def test_certificates(self) -> None:
        self.gauge("wow_certificate_expiry_timestamp_seconds", 86400.0 * 10, endpoint="listen.0")
        self.assertEqual(self.page().rows["certificate of listen.0"], "expires in 10 days")
        late = self.page(now=86400.0 * 11)
        self.assertEqual(late.rows["certificate of listen.0"], "has expired")
        self.assertIn("certificate of listen.0", late.bad)

    def test_reload_that_was_refused(self) -> None:
        page = self.page(reload={"outcome": "refused", "reason": "log.level: no such level"})
        self.assertEqual(page.rows["last reload"], "refused: log.level: no such level")

    @given(st.text(min_size=1), st.text())
    def test_what_comes_from_elsewhere_is_text(self, label: str, reason: str) -> None:
        registry = CollectorRegistry()
        Gauge("wow_refusals_total", "", ["stage", "code"], registry=registry).labels(
            label, "<script>"
        ).set(1)
        health = {"ready": False, "reasons": {"spent": f"<img src=x>{reason}"}}
        html = render(registry.collect(), health, 0)
        page = Page(html)
        self.assertEqual(page.seen.count("script"), 1)
        self.assertNotIn("img", page.seen)
        self.assertIn("<img src=x>", page.text)
