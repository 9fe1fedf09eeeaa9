"""
What is counted, by name.

One registry a server, handed on by its maker; no part of wow uses the
library's global one. Label sets are bounded: no label ever holds what a
client sent.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from wow import __version__
from wow.errors import BY_CODE

OK = "ok"
"""The outcome of what was not refused."""

_DURATIONS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)


class Tally:
    """
    A count on the hot path, told to its counter when metrics are read. As a
    plain integer it costs a tenth of what the counter does.

    @ivar count: only ever goes up.
    """

    __slots__ = ("_counter", "_told", "count")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._told = 0
        self.count = 0

    def tell(self) -> None:
        """Bring the counter up to date."""
        self._counter.inc(self.count - self._told)
        self._told = self.count


class Tallies(Collector):
    """Makes tallies, and tells them all before the counters are collected."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tallies: list[Tally] = []
        registry.register(self)

    def __call__(self, counter: Counter) -> Tally:
        tally = Tally(counter)
        self._tallies.append(tally)
        return tally

    def collect(self) -> Iterable[Metric]:
        for tally in self._tallies:
            tally.tell()
        return ()


class Metrics:
    """Every metric of a server, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        # First, since a registry collects in the order of registration.
        tally = Tallies(registry)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        Info("wow_build", "What is running.", registry=registry).info({"version": __version__})

        requests = Counter(
            "wow_requests",
            "Frames that were read, by kind of message.",
            ["type"],
            registry=registry,
        )
        self.requests = tally(requests.labels("request"))
        self.solutions = tally(requests.labels("solution"))
        outcomes = Counter(
            "wow_outcomes",
            "Answers by code: ok for a challenge or a resource, else the error code.",
            ["type", "code"],
            registry=registry,
        )
        self.issued = tally(outcomes.labels("request", OK))
        self.redeemed = tally(outcomes.labels("solution", OK))
        self.refused = {
            kind: {code: tally(outcomes.labels(kind, code)) for code in BY_CODE}
            for kind in ("request", "solution", "connection")
        }
        durations = Histogram(
            "wow_answer_duration_seconds",
            "From a frame read to its answer written, where it was not refused.",
            ["type"],
            buckets=_DURATIONS,
            registry=registry,
        )
        self.issue_duration = durations.labels("request")
        self.redeem_duration = durations.labels("solution")
        self.effort_asked = tally(
            Counter(
                "wow_effort_asked_hashes",
                "Expected hashes of all challenges made.",
                registry=registry,
            )
        )
        self.effort_paid = tally(
            Counter(
                "wow_effort_paid_hashes", "Expected hashes of all tokens spent.", registry=registry
            )
        )
        self.price = Gauge(
            "wow_price_hashes", "Expected hashes that a challenge asks now.", registry=registry
        )

        self.connections = Gauge("wow_connections", "Connections open now.", registry=registry)
        self.connections_opened = tally(
            Counter("wow_connections_opened", "Connections accepted.", registry=registry)
        )
        self.clients = Gauge(
            "wow_clients", "Address prefixes in the clients table.", registry=registry
        )

        self.quotes_taken = Counter(
            "wow_quotes_taken",
            "Quotes taken from the pool for a solution, by source.",
            ["source"],
            registry=registry,
        )
        self.quotes_pooled = Gauge(
            "wow_quotes_pooled", "Quotes in the pool not yet served.", registry=registry
        )
        self.quote_fetches = Counter(
            "wow_quote_fetches",
            "Attempts to fetch quotes, by source and outcome.",
            ["source", "outcome"],
            registry=registry,
        )

        self.spent_entries = Gauge(
            "wow_spent_entries", "Spent tokens remembered.", registry=registry
        )
        self.spent_max_entries = Gauge(
            "wow_spent_max_entries", "The bound on remembered tokens.", registry=registry
        )
        self.spent_usable = Gauge(
            "wow_spent_usable", "1 while the spent store takes tokens, else 0.", registry=registry
        )
