"""Where quotes come from, made from the settings."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool

from wow.breaker import Breaker
from wow.config import Collection, Http, Quotes
from wow.http.endpoint import BoundedEndpoints
from wow.metrics import Metrics
from wow.quotes.answer import Layout
from wow.quotes.service import QuoteService, Supply
from wow.quotes.sources import CollectionSource, HttpSource, load_collection
from wow.quotes.states import SourceStates
from wow.secret import reveal

_MOST_HEADERS = 65536
"""Bytes that an API may send before the body of its answer."""


def build_quotes(
    settings: Quotes,
    environ: Mapping[str, str],
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> QuoteService:
    """The pool of quotes, with its sources."""
    chance = random.Random()  # noqa: S311 (it shuffles quotes and spreads retries)
    metrics.max_quotes_pooled.set(settings.pool)
    quotes = QuoteService(
        [_build_supply(source, environ, reactor, chance) for source in settings.enabled],
        settings.pool,
        reactor,
        log,
        metrics.quotes_taken,
        metrics.quotes_pooled,
        metrics.quote_fetches,
    )
    metrics.registry.register(SourceStates(quotes.status))
    return quotes


def _build_supply(
    source: Http | Collection, environ: Mapping[str, str], reactor: Any, chance: random.Random
) -> Supply:
    if isinstance(source, Collection):
        deck = CollectionSource(source.name, load_collection(source.file), chance)
        return Supply(deck, Breaker(reactor, chance.random))
    endpoints = BoundedEndpoints(
        reactor,
        source.timeout,
        source.max_bytes + _MOST_HEADERS,
        BrowserLikePolicyForHTTPS(),
    )
    pool = HTTPConnectionPool(reactor, persistent=False)
    api = HttpSource(
        source.name,
        str(source.url),
        Layout(source.text, source.author, source.items),
        Agent.usingEndpointFactory(reactor, endpoints, pool),
        reactor,
        {name: reveal(value, environ) for name, value in source.headers.items()},
        source.timeout,
        source.max_bytes,
    )
    return Supply(api, Breaker(reactor, chance.random, source.interval))
