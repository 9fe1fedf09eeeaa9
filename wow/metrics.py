"""
What is counted, by name.

One registry a server, handed on by its maker; no part of wow uses the
library's global one. Label sets are bounded: no label ever holds what a
client sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from wow import __version__
from wow.errors import BY_CODE, Stage
from wow.guard import REASONS
from wow.pow.pricing import LEVELS
from wow.proxy import REASONS as PROXY_REASONS
from wow.redis.errors import REASONS as REDIS_REASONS
from wow.spread import Milliseconds, Spread, Spreads

OK = "ok"
"""The outcome of what was not refused."""

Over = Literal["sum", "max", "min"]
"""How the values of a gauge in several workers are made one."""

_DURATIONS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)

_ELSEWHERE: tuple[tuple[Stage, str], ...] = (
    ("resource", "unknown_resource"),
    ("spend", "expired"),
    ("spend", "unavailable"),
)
"""Refusals at another stage than is the rule for their code."""


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


class Refusals(dict[tuple[Stage, str], Tally]):
    """
    Counts refusals by stage and code. Those that can be are there from the
    start; one that nobody foresaw is counted all the same.
    """

    def __init__(self, tally: Tallies, counter: Counter) -> None:
        super().__init__()
        self._make = lambda stage, code: tally(counter.labels(stage, code))
        usual = [(refused.stage, code) for code, refused in BY_CODE.items()]
        for stage, code in (*usual, *_ELSEWHERE):
            self[stage, code] = self._make(stage, code)

    def __missing__(self, key: tuple[Stage, str]) -> Tally:
        return self.setdefault(key, self._make(*key))


_CERTIFICATE_EXPIRY = "wow_certificate_expiry_timestamp_seconds"


def make_certificate_expiry(registry: CollectorRegistry) -> Gauge:
    """Make the metric that says when certificates expire."""
    return Gauge(
        _CERTIFICATE_EXPIRY,
        "When the certificate of an endpoint expires, by the endpoint's key in the configuration.",
        ["endpoint"],
        registry=registry,
    )


class Metrics:
    """
    Every metric of a server, on a registry of its own.

    @ivar over: by the name of a gauge, what many workers have of it together;
        of one that is not there, the sum.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.over: dict[str, Over] = {}
        # First, since a registry collects in the order of registration.
        self._tally = Tallies(self.registry)
        self._process()
        self._answers()
        self._prices()
        self._connections()
        self._certificates()
        self._identity()
        self._quotes()
        self._spent()
        self._spans()

    def _process(self) -> None:
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Info("wow_build", "What is running.", registry=self.registry)
        build.info({"version": __version__})

    def _answers(self) -> None:
        requests = self._counter("requests", "Messages that were read, by type.", "type")
        self.requests = self._tally(requests.labels("request"))
        self.solutions = self._tally(requests.labels("solution"))
        outcomes = self._counter(
            "outcomes",
            "Answers by code: ok for a challenge or a resource, else the error code.",
            "type",
            "code",
        )
        self.issued = self._tally(outcomes.labels("request", OK))
        self.redeemed = self._tally(outcomes.labels("solution", OK))
        self.refused = {
            kind: {code: self._tally(outcomes.labels(kind, code)) for code in BY_CODE}
            for kind in ("request", "solution", "connection")
        }
        refusals = self._counter(
            "refusals",
            "Answers that were refusals, by how far the exchange had come and error code.",
            "stage",
            "code",
        )
        self.refusals = Refusals(self._tally, refusals)
        self.issue_duration = Spread(*_DURATIONS)
        self.redeem_duration = Spread(*_DURATIONS)
        durations = Spreads(
            "wow_answer_duration_seconds",
            "From a message read to its answer written, where it was not refused.",
            "type",
            {"request": self.issue_duration, "solution": self.redeem_duration},
        )
        self.registry.register(durations)
        self.exchange_duration = self._milliseconds(
            "exchange_duration_seconds",
            "From a request read to its resource written, solving included, where both were on "
            "one connection.",
        )
        self.solve_time = self._milliseconds(
            "solve_time_seconds",
            "From a challenge made to its solution, of those redeemed, by the token alone: the "
            "challenge may have been another server's.",
        )

    def _prices(self) -> None:
        asked = self._counter("effort_asked_hashes", "Expected hashes of all challenges made.")
        self.effort_asked = self._tally(asked)
        paid = self._counter("effort_paid_hashes", "Expected hashes of all tokens spent.")
        self.effort_paid = self._tally(paid)
        self.price = self._gauge(
            "price_hashes",
            "Expected hashes that a challenge asks of an unknown client now.",
            over="max",
        )
        self.base_price = self._gauge(
            "base_price_hashes",
            "The same price while nothing drives it up (pow.effort).",
            over="max",
        )
        self.surge = self._gauge(
            "price_surge_ratio",
            "How many times the base price the load alone makes it; 1 or more.",
            over="max",
        )
        self.floor = self._gauge(
            "price_floor_hashes",
            "The least that a challenge asks of any client.",
            over="max",
        )
        self.ceiling = self._gauge(
            "price_ceiling_hashes",
            "The most that a challenge asks of any client.",
            over="max",
        )
        self.load = self._gauge(
            "load_target_ratio",
            "The share of the event loop's time that is to be in use (pow.load).",
            over="max",
        )
        challenges = self._counter(
            "challenges",
            "Challenges made, by how many times the price was doubled for the client's conduct.",
            "doublings",
        )
        self.challenges = [self._tally(challenges.labels(level)) for level in range(LEVELS + 1)]

    def _connections(self) -> None:
        opened = self._counter("connections_opened", "Connections accepted.")
        self.connections_opened = self._tally(opened)
        self.connections = self._gauge("connections", "Connections open now.")
        self.half_begun = self._gauge(
            "connections_half_begun", "Connections open now that have not sent a complete frame."
        )
        turned_away = self._counter(
            "connections_turned_away", "Connections not admitted, by reason.", "reason"
        )
        self.turned_away = {reason: self._tally(turned_away.labels(reason)) for reason in REASONS}
        self.sieved_clients = self._gauge(
            "sieved_clients", "Clients whose attempts to connect the kernel drops."
        )
        displaced = self._counter(
            "connections_displaced",
            "Connections that gave way to a newcomer, by whether a complete frame ever came.",
            "begun",
        )
        self.displaced = {
            begun: self._tally(displaced.labels("yes" if begun else "no"))
            for begun in (False, True)
        }
        proxy_refused = self._counter(
            "proxy_refused",
            "Connections to endpoints with PROXY headers that were not handed on, by reason.",
            "reason",
        )
        self.proxy_refused = {
            reason: self._tally(proxy_refused.labels(reason)) for reason in PROXY_REASONS
        }
        self.max_connections = self._gauge("max_connections", "The bound on open connections.")
        self.max_half_begun = self._gauge(
            "max_connections_half_begun", "The bound on wow_connections_half_begun."
        )
        self.clients = self._gauge("clients", "Clients that something is known of.")
        self.networks = self._gauge("networks", "Networks that something is known of.")
        self.max_clients = self._gauge(
            "max_clients", "The bound on the table of clients, and on that of networks."
        )

    def _certificates(self) -> None:
        self.certificate_expiry = make_certificate_expiry(self.registry)
        self.over[_CERTIFICATE_EXPIRY] = "min"

    def _identity(self) -> None:
        self.configuration = Info(
            "wow_configuration",
            "A fingerprint of the configuration in force, without what is a machine's own. "
            "Servers with the same one treat clients alike.",
            registry=self.registry,
        )
        self.keys = self._gauge(
            "keys",
            "1 for each key in force, by id and role (signs, verifies).",
            "id",
            "role",
            over="max",
        )

        self.key_created = self._gauge(
            "key_created_timestamp_seconds",
            "When the key that signs was made, by its id, where that is noted with it.",
            "id",
            over="max",
        )

    def _quotes(self) -> None:
        taken = self._counter(
            "quotes_taken", "Quotes taken from the pool for a solution, by source.", "source"
        )
        self.quotes_taken = lambda source: self._tally(taken.labels(source))
        self.quotes_pooled = self._gauge("quotes_pooled", "Quotes in the pool not yet taken.")
        self.max_quotes_pooled = self._gauge(
            "max_quotes_pooled", "The bound on wow_quotes_pooled (quotes.pool)."
        )
        self.quote_fetches = self._counter(
            "quote_fetches", "Attempts to fetch quotes, by source and outcome.", "source", "outcome"
        )

    def _spent(self) -> None:
        # Of the one store that all workers have.
        self.spent_entries = self._gauge("spent_entries", "Spent tokens remembered.", over="max")
        self.spent_max_entries = self._gauge(
            "spent_max_entries", "The bound on remembered tokens.", over="max"
        )
        self.spent_usable = self._gauge(
            "spent_usable", "1 while the spent store takes tokens, else 0.", over="min"
        )
        self.spent_reachable = self._gauge(
            "spent_reachable",
            "1 while the spent store that machines share does what it is asked, or there is none.",
            over="min",
        )
        self.spent_reachable.set(1)
        self.spent_connections = self._gauge(
            "spent_connections", "Connections to the shared spent store that are ready."
        )
        self.spent_duration = Spread(*_DURATIONS)
        text = "From asking the shared spent store to spend a token to its answer."
        durations = {"spend": self.spent_duration}
        self.registry.register(Spreads("wow_spent_duration_seconds", text, "question", durations))
        failures = self._counter(
            "spent_failures", "Questions that the shared spent store did not answer.", "reason"
        )
        self.spent_failures = {
            reason: self._tally(failures.labels(reason)) for reason in REDIS_REASONS
        }
        alone = self._counter(
            "spent_alone", "Tokens spent on this machine alone, the shared store out of reach."
        )
        self.spent_alone = self._tally(alone)

    def _spans(self) -> None:
        spans = self._counter(
            "trace_spans",
            "Spans of traced exchanges, by outcome: rejected by the collector, failed to reach "
            "it, or dropped, since too many were waiting.",
            "outcome",
        )
        self.spans = {
            outcome: self._tally(spans.labels(outcome))
            for outcome in ("exported", "rejected", "failed", "dropped")
        }

    def _milliseconds(self, name: str, text: str) -> Milliseconds:
        spread = Milliseconds()
        self.registry.register(Spreads(f"wow_{name}", text, None, {"": spread}))
        return spread

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"wow_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, over: Over = "sum") -> Gauge:
        self.over[f"wow_{name}"] = over
        return Gauge(f"wow_{name}", text, labels, registry=self.registry)
