"""The spent store that the configuration asks for."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger

from wow.breaker import Breaker
from wow.config import Settings
from wow.metrics import Metrics
from wow.pow.spent import ILocalSpentStore, ISharedSpentStore, ISpentStore
from wow.pow.spent_fallback import FallbackSpentStore
from wow.pow.spent_lmdb import LmdbSpentStore, this_boot
from wow.redis.location import Location
from wow.secret import reveal

_COOL_DOWN = 2.0
"""Seconds that a server which was late is left alone."""


def build_spent(
    settings: Settings,
    environ: Mapping[str, str],
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> ISpentStore:
    """Build the store. It neither opens a file nor connects before it is opened."""
    metrics.spent_max_entries.set(settings.spent.max_entries)
    server = settings.spent.server
    if server is None:
        return _build_lmdb(settings, log)
    shared = _build_redis(server, settings, environ, reactor, metrics, log)
    if settings.spent.outage == "refuse":
        return shared
    return FallbackSpentStore(shared, _build_lmdb(settings, log), metrics.spent_alone, log)


def _build_lmdb(settings: Settings, log: FilteringBoundLogger) -> ILocalSpentStore:
    spent = settings.spent
    return LmdbSpentStore(
        spent.lmdb, _now_ms, _ms(settings.pow.ttl), spent.max_entries, log, this_boot()
    )


def _build_redis(
    server: Location,
    settings: Settings,
    environ: Mapping[str, str],
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> ISharedSpentStore:
    # Not before it is known to be wanted: txredisapi brings the reactor with it.
    from wow.pow.spent_redis import RedisSpentStore
    from wow.pow.spent_scripts import make_scripts
    from wow.pow.spent_shared import SharedSet
    from wow.redis.connection import Login
    from wow.redis.endpoints import endpoint_for
    from wow.redis.pool import Pool

    spent, skew_ms = settings.spent, _ms(settings.pow.skew)
    password = None if spent.password is None else reveal(spent.password, environ)
    pool = Pool(
        endpoint_for(server, spent.ca, spent.timeout, reactor),
        spent.connections,
        Login(server.user, password, server.database),
        spent.timeout,
        reactor,
        random.random,
    )
    shared = SharedSet(
        spent.url,
        pool,
        make_scripts(),
        Breaker(reactor, random.random, threshold=1, cool_down=_COOL_DOWN),
        _ms(settings.pow.ttl) + skew_ms,
        metrics.spent_failures,
        log,
    )
    store = RedisSpentStore(
        shared, skew_ms, spent.max_entries, _now_ms, reactor, metrics.spent_duration, log
    )
    metrics.spent_reachable.set_function(lambda: store.reachable)
    metrics.spent_connections.set_function(pool.__len__)
    return store


def _ms(seconds: float) -> int:
    """Seconds in whole milliseconds."""
    return round(seconds * 1000)


def _now_ms() -> int:
    """The wall clock, milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000
