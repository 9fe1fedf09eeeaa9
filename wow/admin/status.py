"""
The status page: what a person wants to see first. It is made of the metrics
and of health alone, so that it says nothing that they do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen
from prometheus_client.metrics_core import Metric
from twisted.web.template import Tag, flattenString, tags

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load and do (Content Security Policy, level 3)."""


@frozen
class Row:
    """
    One thing that is shown.

    @ivar value: for the chart, if there is to be one.
    @ivar counts: whether it only ever grows, and its rate is what matters.
    """

    name: str
    text: str
    value: float | None = None
    counts: bool = False
    bad: bool = False


@frozen
class Section:
    """Rows that belong together, and what is said where there are none."""

    title: str
    rows: list[Row]
    none: str = "nothing yet"


@frozen
class Numbers:
    """The samples of metrics, by name and labels."""

    _samples: Mapping[str, list[tuple[Mapping[str, str], float]]] = field()

    def one(self, name: str, **labels: str) -> float:
        """The sum of those with these labels; 0 if there is none."""
        return sum(value for _, value in self.each(name, **labels))

    def each(self, name: str, **labels: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """All those with these labels."""
        for known, value in self._samples.get(name, ()):
            if labels.items() <= known.items():
                yield known, value

    def mean(self, name: str) -> str:
        """The mean of a histogram of seconds."""
        count = self.one(f"{name}_count")
        return f"{self.one(f'{name}_sum') / count:,.3g} s" if count else "—"


def numbers(metrics: Iterable[Metric]) -> Numbers:
    """Read metrics as a registry collects them."""
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for metric in metrics:
        for sample in metric.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Numbers(samples)


def sections(known: Numbers, health: Mapping[str, Any], now: float) -> list[Section]:
    """
    All that the page shows.

    @param health: as L{wow.admin.health.Health.report} tells it.
    @param now: seconds since the epoch.
    """
    return [
        Section("Served", list(_served(known))),
        Section("Price, in hashes", list(_price(known))),
        Section("Refused, by stage and code", list(_refused(known)), "nobody was refused so far"),
        Section("Quotes", list(_quotes(known))),
        Section("Workers", list(_workers(health)), "one process, without workers"),
        Section("What it rests on", list(_rest(known, health, now))),
    ]


def _counter(name: str, value: float) -> Row:
    return Row(name, f"{value:,.0f}", value, counts=True)


def _of(name: str, value: float, most: float) -> Row:
    return Row(name, f"{value:,.0f} of {most:,.0f}", value, bad=most > 0 and value >= most)


def _served(known: Numbers) -> Iterator[Row]:
    yield _counter("quotes", known.one("wow_outcomes_total", type="solution", code="ok"))
    yield _counter("challenges", known.one("wow_outcomes_total", type="request", code="ok"))
    yield _of("connections open", known.one("wow_connections"), known.one("wow_max_connections"))
    for labels, value in known.each("wow_connections_by_state"):
        if value:
            yield Row(f"· {labels['state'].replace('_', ' ')}", f"{value:,.0f}")
    yield Row("a whole exchange takes, mean", known.mean("wow_exchange_duration_seconds"))


def _price(known: Numbers) -> Iterator[Row]:
    price, ceiling = known.one("wow_price_hashes"), known.one("wow_price_ceiling_hashes")
    base, surge = known.one("wow_base_price_hashes"), known.one("wow_price_surge_ratio")
    yield Row("asked of a client now", f"{price:,.0f}", price, bad=price >= ceiling > base)
    yield Row("· the configured base", f"{base:,.0f}")
    yield Row("· times, by the load", f"{surge:,.3g}", surge)
    floor = known.one("wow_price_floor_hashes")
    yield Row("never below, nor above", f"{floor:,.0f} … {ceiling:,.0f}")
    yield Row("rises when busy for over", f"{known.one('wow_load_target_ratio'):.0%}")
    doubled = sum(
        value for labels, value in known.each("wow_challenges_total") if labels["doublings"] != "0"
    )
    yield _counter("dearer, as asked too often", doubled)
    yield Row("clients take to solve, mean", known.mean("wow_solve_time_seconds"))
    asked = known.one("wow_effort_asked_hashes_total")
    paid = known.one("wow_effort_paid_hashes_total")
    yield Row("of the work asked was done", f"{paid / asked:.0%}" if asked else "—")


def _refused(known: Numbers) -> Iterator[Row]:
    refused = [
        (value, f"{labels['stage']}: {labels['code'].replace('_', ' ')}")
        for labels, value in known.each("wow_refusals_total")
        if value
    ]
    turned_away = [
        (value, f"not admitted: {labels['reason'].replace('_', ' ')}")
        for labels, value in known.each("wow_connections_turned_away_total")
        if value
    ]
    for value, name in sorted(refused + turned_away, reverse=True):
        yield _counter(name, value)


def _quotes(known: Numbers) -> Iterator[Row]:
    pooled = known.one("wow_quotes_pooled")
    yield Row("ready", f"{pooled:,.0f} of {known.one('wow_max_quotes_pooled'):,.0f}", pooled)
    sources = {labels["source"]: 0 for labels, _ in known.each("wow_quote_source_state")}
    for source in sources:
        states = [
            labels["state"]
            for labels, value in known.each("wow_quote_source_state", source=source)
            if value
        ]
        failed = known.one("wow_quote_fetches_total", source=source, outcome="failed")
        taken = known.one("wow_quotes_taken_total", source=source)
        state = "working" if states == ["closed"] else f"breaker {', '.join(states)}"
        text = f"{state}; {taken:,.0f} taken, {failed:,.0f} failed"
        yield Row(f"from {source}", text, bad=states != ["closed"])


def _workers(health: Mapping[str, Any]) -> Iterator[Row]:
    for number, worker in enumerate(health.get("workers", ()), 1):
        ready = isinstance(worker, dict) and worker.get("ready") is True
        reasons = _reasons(worker) if isinstance(worker, dict) else "does not answer"
        yield Row(f"worker {number}", "ready" if ready else f"not ready: {reasons}", bad=not ready)


def _rest(known: Numbers, health: Mapping[str, Any], now: float) -> Iterator[Row]:
    entries = known.one("wow_spent_entries")
    yield _of("redemptions remembered", entries, known.one("wow_spent_max_entries"))
    usable, reachable = known.one("wow_spent_usable"), known.one("wow_spent_reachable")
    if not (usable and reachable):
        yield Row("spent store", "out of reach" if usable else "takes nothing", bad=True)
    for labels, value in known.each("wow_keys"):
        if value:
            created = known.one("wow_key_created_timestamp_seconds", id=labels["id"])
            age = f", {_days(now - created)} old" if created else ""
            yield Row(f"key {labels['id']}", f"{labels['role']}{age}")
    for labels, expiry in known.each("wow_certificate_expiry_timestamp_seconds"):
        left = expiry - now
        text = f"expires in {_days(left)}" if left > 0 else "has expired"
        yield Row(f"certificate of {labels['endpoint']}", text, bad=left <= 0)
    for labels, _ in known.each("wow_configuration_info"):
        yield Row("configuration", labels.get("hash", "not read"))
    reload = health.get("reload", {})
    if reload.get("outcome") == "refused":
        yield Row("last reload", f"refused: {reload.get('reason')}", bad=True)


def _days(seconds: float) -> str:
    hours = max(0, int(seconds // 3600))
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"


def _reasons(report: Mapping[str, Any]) -> str:
    return "; ".join(f"{part}: {why}" for part, why in report.get("reasons", {}).items())


def render(metrics: Iterable[Metric], health: Mapping[str, Any], now: float) -> bytes:
    """
    The page.

    @return: HTML, in UTF-8. Whatever comes from elsewhere is text in it.
    """
    known = numbers(metrics)
    ready = health["ready"] is True
    state = "ready" if ready else f"not ready: {_reasons(health)}"
    versions = [labels.get("version", "") for labels, _ in known.each("wow_build_info")]
    at = datetime.fromtimestamp(now, UTC)
    page = tags.html(
        tags.head(
            tags.meta(charset="utf-8"),
            tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            tags.title("wow: ready" if ready else "wow: NOT ready"),
            tags.link(rel="stylesheet", href="/status.css"),
            tags.script(src="/status.js", defer="defer"),
        ),
        tags.body(
            tags.div(
                tags.header(
                    tags.h1("wow ", ", ".join(versions)),
                    tags.p(state, class_="state ok" if ready else "state bad", role="status"),
                ),
                Tag("main")(*(_section(each) for each in sections(known, health, now))),
                id="all",
            ),
            tags.footer(
                tags.p(f"As of {at:%Y-%m-%d %H:%M:%S} UTC. Reload the page for newer.", id="note"),
                tags.p(
                    *(
                        part
                        for path in ("/metrics", "/health/ready", "/health/live", "/debug/")
                        for part in (tags.a(path, href=path), " ")
                    )
                ),
            ),
        ),
        lang="en",
    )
    done: list[bytes] = []
    # Nothing in it is waited for.
    flattenString(None, page).addCallback(done.append)
    return b"<!DOCTYPE html>\n" + done[0] + b"\n"


def _section(section: Section) -> Tag:
    heading = tags.h2(section.title)
    if not section.rows:
        return tags.section(heading, tags.p(section.none, class_="none"))
    return tags.section(heading, tags.table(*(_row(section, row) for row in section.rows)))


def _row(section: Section, row: Row) -> Tag:
    attributes: dict[str, str] = {}
    if row.value is not None:
        attributes["data-name"] = f"{section.title}/{row.name}"
        attributes["data-value"] = repr(float(row.value))
        if row.counts:
            attributes["data-counts"] = "yes"
    cell = tags.td(row.text, class_="bad") if row.bad else tags.td(row.text)
    return tags.tr(tags.th(row.name, scope="row"), cell)(**attributes)
