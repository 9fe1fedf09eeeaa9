"""
The C{twistd} plugin: builds every part and joins them.

The only place that knows all rooms.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from attrs import asdict
from structlog.typing import FilteringBoundLogger
from twisted.application.service import IService
from twisted.python import usage
from twisted.python.logfile import LogFile
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool

from wow import __version__, config
from wow.admin.health import Check, Health
from wow.admin.site import make_site
from wow.clients import Clients
from wow.config import Collection, ConfigError, Http, Settings
from wow.guard import Guard
from wow.lifecycle import CannotStart, Drain, Listener, Ordered, Signals
from wow.logs import make_logger
from wow.metrics import Metrics
from wow.pow import keys
from wow.pow.keys import KeyRing
from wow.pow.purge import Purge
from wow.pow.service import Price, ProofOfWork
from wow.pow.spent import ISpentStore
from wow.pow.spent_lmdb import LmdbSpentStore, this_boot
from wow.quotes.answer import Layout
from wow.quotes.breaker import Breaker
from wow.quotes.endpoint import BoundedEndpoints
from wow.quotes.service import QuoteService, Supply
from wow.quotes.sources import CollectionSource, HttpSource, load_collection
from wow.secret import reveal
from wow.server import Gate, Limits

_MOST_HEADERS = 65536
"""Bytes that an API may send before the body of its answer."""


class Options(usage.Options):
    """The command line of C{twistd wow}."""

    synopsis = "[--config FILE]"
    longdesc = "A price on asking: proof of work in front of a TCP service."
    optParameters = (
        ["config", "c", None, "the configuration, a YAML file; without it, the defaults"],
    )

    def opt_version(self) -> None:
        """Show the version and exit."""
        sys.stdout.write(f"wow {__version__}\n")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """
        Read the configuration, before twistd starts anything.

        @raise SystemExit: if it cannot be used; what is wrong is on standard error.
        """
        try:
            self["settings"] = config.load(self["config"], os.environ)
        except ConfigError as error:
            _leave(error.problems)


def _leave(problems: Sequence[str]) -> None:
    sys.stderr.writelines(f"wow: {problem}\n" for problem in problems)
    raise SystemExit(1)


def makeService(options: Options) -> IService:
    """The whole server, as C{twistd} runs it."""
    from twisted.internet import reactor

    settings: Settings = options["settings"]
    file = _log_file(cast(Mapping[str, Any], options.parent))
    log = make_logger(file, settings.log.level, settings.log.format)
    sys.excepthook = _explain
    return build(settings, os.environ, reactor, getattr(file, "rotate", lambda: None), log)


def _explain(kind: type[BaseException], error: BaseException, where: Any) -> None:
    # twistd leaves what ends a start to the interpreter, whose traceback
    # would hide the reason, which is in the log already.
    if not isinstance(error, CannotStart):
        sys.__excepthook__(kind, error, where)


def _log_file(twistd: Mapping[str, Any]) -> Any:
    # As twistd itself does, with the stream that it is about to replace.
    name = twistd["logfile"]
    if name == "-" or (twistd["nodaemon"] and not name):
        return sys.stdout
    return LogFile.fromFullPath(name or "twistd.log")


def build(
    settings: Settings,
    environ: Mapping[str, str],
    reactor: Any,
    rotate: Callable[[], object],
    log: FilteringBoundLogger,
) -> Ordered:
    """Build a server from its settings. It is started as a service."""
    metrics = Metrics()
    clients = Clients(settings.limits.clients)
    metrics.clients.set_function(lambda: len(clients))
    quotes = _build_quotes(settings, environ, reactor, metrics, log)
    spent = LmdbSpentStore(
        settings.spent.directory,
        _now_ms,
        _ms(settings.pow.ttl),
        settings.spent.max_entries,
        log,
        this_boot(),
    )
    proof_of_work = _build_proof_of_work(settings, environ, spent, quotes, metrics, log)
    gate = _build_gate(settings, proof_of_work, clients, reactor, metrics, log)
    health = Health(
        {
            "spent": Check(lambda: spent.trouble),
            "quotes": Check(lambda: quotes.trouble, lambda: asdict(quotes.status())),
            "gate": Check(lambda: "shutting down" if gate.draining else None),
        }
    )
    site = make_site(metrics.registry, health)
    parts = [
        Signals(reactor, rotate, log),
        Listener(reactor, settings.admin.listen, site, log),
        _build_purge(settings, spent, reactor, metrics, log),
        quotes,
        Drain(reactor, gate, settings.limits.drain, log),
        *(Listener(reactor, endpoint, gate, log) for endpoint in settings.listen),
    ]
    server = Ordered(log)
    for part in parts:
        part.setServiceParent(server)
    return server


def _build_quotes(
    settings: Settings,
    environ: Mapping[str, str],
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> QuoteService:
    chance = random.Random()  # noqa: S311 (it shuffles quotes and spreads retries)
    return QuoteService(
        [_build_supply(source, environ, reactor, chance) for source in settings.quotes.enabled],
        settings.quotes.pool,
        reactor,
        log,
        metrics.quotes_taken,
        metrics.quotes_pooled,
        metrics.quote_fetches,
    )


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


def _build_proof_of_work(
    settings: Settings,
    environ: Mapping[str, str],
    spent: ISpentStore,
    quotes: QuoteService,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> ProofOfWork:
    price = Price.of(settings.pow.effort, settings.pow.rounds)
    metrics.price.set(price.effort)
    return ProofOfWork(
        keys=_find_keys(settings, environ, log),
        price=price,
        ttl_ms=_ms(settings.pow.ttl),
        skew_ms=_ms(settings.pow.skew),
        bind_clients=settings.pow.bind,
        spent=spent,
        resources={"quote": quotes},
        now_ms=_now_ms,
        effort_asked=metrics.effort_asked,
        effort_paid=metrics.effort_paid,
    )


def _find_keys(
    settings: Settings, environ: Mapping[str, str], log: FilteringBoundLogger
) -> KeyRing:
    found = keys.find(settings.keys.file, environ)
    if found is not None:
        log.info("keys", ids=" ".join(found.ids()))
        return found
    log.warning(
        "random_key",
        meaning="no keys were given, so challenges are good only for this process: a restart "
        "voids those that are out, and no other server can redeem them",
        remedy="wow keygen wow.key, and set keys.file",
    )
    return KeyRing([keys.generate()])


def _build_purge(
    settings: Settings,
    spent: ISpentStore,
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> Purge:
    metrics.spent_max_entries.set(settings.spent.max_entries)
    return Purge(
        spent,
        _ms(settings.pow.skew),
        _now_ms,
        reactor,
        log,
        metrics.spent_entries,
        metrics.spent_usable,
    )


def _build_gate(
    settings: Settings,
    proof_of_work: ProofOfWork,
    clients: Clients,
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> Gate:
    limits = settings.limits
    metrics.max_connections.set(limits.connections)
    guard = Guard(limits.connections, limits.rate, limits.burst, clients, reactor)
    return Gate(
        proof_of_work,
        guard,
        Limits(
            max_frame=limits.frame,
            idle=limits.idle,
            solving=settings.pow.ttl + settings.pow.skew,
            lifetime=limits.lifetime,
            exchanges=limits.exchanges,
            linger=limits.linger,
        ),
        (limits.prefix_v4, limits.prefix_v6),
        reactor,
        metrics,
        log,
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
