"""
The C{twistd} plugin: builds every part and joins them.

The only place that knows all rooms.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
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
from wow.breaker import Breaker
from wow.census import Census
from wow.clients import Clients
from wow.config import Collection, ConfigError, Http, Settings
from wow.descriptors import raise_limit, room
from wow.endpoint import parse
from wow.entrance import Entrance
from wow.fingerprint import fingerprint
from wow.guard import Allowance, Guard, Lists, Scope
from wow.heap import Heap, find_trim
from wow.identity import Identities
from wow.lane import Detour, Lane
from wow.layers import Layers
from wow.lifecycle import CannotStart, Drain, Listener, Ordered, Signals
from wow.logs import make_logger
from wow.loop import LoopMeter, attach
from wow.metrics import Metrics
from wow.networks import Networks
from wow.offenders import Offenders
from wow.pow import keys
from wow.pow.keys import KeyRing
from wow.pow.pricing import Pricing, Repricing
from wow.pow.purge import Purge
from wow.pow.service import ProofOfWork
from wow.pow.spent import ISpentStore
from wow.pow.token import bind
from wow.proxy.layer import ProxyLayer
from wow.proxy.waiting import WaitingRoom
from wow.quotes.answer import Layout
from wow.quotes.endpoint import BoundedEndpoints
from wow.quotes.service import QuoteService, Supply
from wow.quotes.sources import CollectionSource, HttpSource, load_collection
from wow.quotes.states import SourceStates
from wow.rate import Rate
from wow.reload import Reload
from wow.seats import Seats
from wow.secret import reveal
from wow.server import Gate, GateProtocol, Limits
from wow.sieve import Sieve
from wow.stores import build_spent

_MOST_HEADERS = 65536
"""Bytes that an API may send before the body of its answer."""

_OTHER_DESCRIPTORS = 128
"""
File descriptors for what is not a connection: the store, the log, operators,
sources, and connections that are being closed.
"""

_HEADERS_AWAITED = 512
"""
Connections from balancers whose header has not come yet. It comes with the
first packet, so these are few.
"""

_DEBT = 5
"""Bursts of failures that are held against a client; then no more are."""


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

    # Deadlines follow the time that passes, not a wall clock that may be set.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    settings: Settings = options["settings"]
    file = _log_file(cast(Mapping[str, Any], options.parent))
    log = make_logger(file, settings.log.level, settings.log.format)
    sys.excepthook = _explain
    reload = partial(config.load, _absolute(options["config"]), os.environ)
    rotate = getattr(file, "rotate", lambda: None)
    server = build(settings, os.environ, reactor, reload, rotate, log)
    # What is there now stays. Left out, it makes collections so short that
    # clients do not notice them, and so frequent that a crowd's memory is free
    # soon after the crowd is gone.
    gc.freeze()
    return server


def _absolute(path: str | None) -> str | None:
    # twistd goes elsewhere when it daemonizes.
    return path and str(Path(path).absolute())


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
    load: Callable[[], Settings],
    rotate: Callable[[], object],
    log: FilteringBoundLogger,
) -> Ordered:
    """
    Build a server from its settings. It is started as a service.

    @param load: reads the settings again.
    """
    metrics = Metrics()
    metrics.configuration.info({"hash": fingerprint(settings)})
    meter = LoopMeter(time.monotonic)
    metrics.registry.register(meter)
    lane = _make_lane(reactor, meter, log)
    pricing = _build_pricing(settings, meter, metrics)
    quotes = _build_quotes(settings, environ, reactor, metrics, log)
    spent = build_spent(settings, environ, reactor, metrics, log)
    proof_of_work = _build_proof_of_work(settings, environ, pricing, spent, quotes, metrics, log)
    sieve = _build_sieve(settings, reactor, metrics, log)
    prefix_bits = (settings.limits.prefix_v4, settings.limits.prefix_v6)
    offenders = Offenders(prefix_bits, reactor, log)
    gate = _build_gate(settings, proof_of_work, [sieve, offenders], reactor, metrics, log)
    health = Health(
        {
            "spent": Check(lambda: spent.trouble, spent.status),
            "quotes": Check(lambda: quotes.trouble, lambda: asdict(quotes.status())),
            "gate": Check(lambda: "shutting down" if gate.draining else None),
        }
    )
    balancers = Offenders(prefix_bits, reactor, log, "proxy_refused")
    layers = _build_layers(settings, balancers, reactor, metrics, log)
    site = make_site(metrics.registry, health)
    admin = parse(settings.admin.listen)
    prepare = partial(_prepare, gate, sieve, layers)
    parts = [
        Signals(reactor, Reload(settings, load, prepare, log), rotate),
        Listener(reactor, admin, layers.over(site, "admin.listen", admin), log),
        _build_purge(settings, spent, reactor, metrics, log),
        quotes,
        Heap(find_trim(), reactor),
        Repricing(pricing, settings.pow.period, reactor, random.random, log),
        sieve,
        offenders,
        balancers,
        Drain(reactor, gate, settings.limits.drain, log),
        *(
            Listener(
                reactor,
                endpoint,
                layers.over(gate, key, endpoint),
                log,
                # Behind a balancer whoever is turned away has its address for
                # the kernel, and so have all the others.
                partial(
                    _take_over, settings.limits.backlog, lane, None if endpoint.proxied else sieve
                ),
            )
            for key, endpoint in settings.endpoints.items()
        ),
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
    metrics.max_quotes_pooled.set(settings.quotes.pool)
    quotes = QuoteService(
        [_build_supply(source, environ, reactor, chance) for source in settings.quotes.enabled],
        settings.quotes.pool,
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


def _build_proof_of_work(
    settings: Settings,
    environ: Mapping[str, str],
    pricing: Pricing,
    spent: ISpentStore,
    quotes: QuoteService,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> ProofOfWork:
    return ProofOfWork(
        keys=_show_keys(_find_keys(settings, environ, log), metrics),
        pricing=pricing,
        ttl_ms=_ms(settings.pow.ttl),
        skew_ms=_ms(settings.pow.skew),
        bind_clients=settings.pow.bind,
        spent=spent,
        resources={"quote": quotes},
        now_ms=_now_ms,
        effort_asked=metrics.effort_asked,
        effort_paid=metrics.effort_paid,
        challenges=metrics.challenges,
        solve_time=metrics.solve_time,
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


def _show_keys(ring: KeyRing, metrics: Metrics) -> KeyRing:
    signing = ring.signing.id.hex()
    for key_id in ring.ids():
        metrics.keys.labels(key_id, "signs" if key_id == signing else "verifies").set(1)
    return ring


def _build_purge(
    settings: Settings,
    spent: ISpentStore,
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> Purge:
    return Purge(
        spent,
        _ms(settings.pow.skew),
        _now_ms,
        reactor,
        log,
        metrics.spent_entries,
        metrics.spent_usable,
    )


def _make_lane(reactor: Any, meter: LoopMeter, log: FilteringBoundLogger) -> Lane | Detour:
    lane = attach(reactor, meter)
    if isinstance(lane, Detour):
        log.warning(
            "loop_not_measured",
            meaning="the price cannot follow the load",
            remedy="use the reactor that is Twisted's default on Linux",
        )
    return lane


def _build_pricing(settings: Settings, meter: LoopMeter, metrics: Metrics) -> Pricing:
    pricing = Pricing(
        base=settings.pow.effort,
        floor=settings.pow.floor,
        ceiling=settings.pow.ceiling,
        rounds=settings.pow.rounds,
        load=settings.pow.load,
        busy=lambda: meter.busy,
        seconds=time.monotonic,
    )
    metrics.base_price.set(settings.pow.effort)
    metrics.price.set_function(lambda: pricing.effort)
    metrics.surge.set_function(lambda: pricing.surge)
    metrics.floor.set_function(lambda: pricing.bounds[0])
    metrics.ceiling.set_function(lambda: pricing.bounds[1])
    metrics.load.set(settings.pow.load)
    return pricing


def _build_gate(
    settings: Settings,
    proof_of_work: ProofOfWork,
    watchers: Sequence[Sieve | Offenders],
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> Gate:
    limits = settings.limits
    connections = _most_connections(settings, log)
    metrics.max_connections.set(connections)
    # Where there is less room for connections, there is less for these too.
    half_begun = max(1, limits.half_begun * connections // limits.connections)
    metrics.max_half_begun.set(half_begun)

    def turned_away(prefix: bytes) -> None:
        for watcher in watchers:
            watcher.turned_away(prefix)

    seats = Seats[GateProtocol](connections, half_begun)
    metrics.registry.register(Census(seats))
    return Gate(
        proof_of_work,
        _build_guard(settings, metrics),
        seats,
        Rate(limits.explained, limits.explained),
        turned_away,
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


def _build_sieve(
    settings: Settings, reactor: Any, metrics: Metrics, log: FilteringBoundLogger
) -> Sieve:
    limits = settings.limits
    prefix_bits = (limits.prefix_v4, limits.prefix_v6)
    sieve = Sieve(prefix_bits, limits.sieve_rate, reactor, random.random, log)
    metrics.sieved_clients.set_function(lambda: sieve.held)
    return sieve


def _take_over(backlog: int, lane: Lane | Detour, sieve: Sieve | None, port: Any) -> Entrance:
    port.stopReading()
    if sieve is not None:
        sieve.add(port.socket)
    return Entrance(port.socket, port.factory, lane, backlog)


def _build_layers(
    settings: Settings,
    balancers: Offenders,
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> Layers:
    prefix_bits = (settings.limits.prefix_v4, settings.limits.prefix_v6)
    make_proxy_layer = partial(
        ProxyLayer,
        trusted=Networks(settings.proxy.networks),
        room=WaitingRoom(_HEADERS_AWAITED, settings.proxy.timeout, reactor),
        refused=metrics.proxy_refused,
        turned_away=lambda address: balancers.turned_away(bind(address, *prefix_bits)),
        log=log,
    )
    identities = Identities(partial(datetime.now, UTC), metrics.certificate_expiry, log)
    return Layers(make_proxy_layer, identities, reactor)


def _prepare(gate: Gate, sieve: Sieve, layers: Layers, settings: Settings) -> Callable[[], None]:
    endpoints = {**settings.endpoints, "admin.listen": parse(settings.admin.listen)}
    put_layers_in_force = layers.prepare(endpoints, Networks(settings.proxy.networks))

    def put_in_force() -> None:
        put_layers_in_force()
        gate.enforce(_lists(settings))
        # Some of those held back may be allowed now.
        sieve.pardon()

    return put_in_force


def _most_connections(settings: Settings, log: FilteringBoundLogger) -> int:
    wanted, descriptors = settings.limits.connections, raise_limit()
    proxied = any(endpoint.proxied for endpoint in settings.endpoints.values())
    others = _OTHER_DESCRIPTORS + (_HEADERS_AWAITED if proxied else 0)
    fitting = room(descriptors, wanted, others)
    if fitting < wanted:
        log.warning(
            "few_descriptors",
            meaning=f"{descriptors} file descriptors make room for {fitting} connections "
            f"instead of {wanted}",
            remedy="raise the limit (ulimit -n, LimitNOFILE=), or lower limits.connections",
        )
    return fitting


def _build_guard(settings: Settings, metrics: Metrics) -> Guard:
    limits = settings.limits
    clients = Clients(limits.clients)
    metrics.clients.set_function(clients.__len__)
    metrics.max_clients.set(limits.clients)
    scopes = [Scope(_allowance(limits, 1), clients, {5: 5, 17: 17})]
    if limits.network_share:
        networks = Clients(limits.clients)
        metrics.networks.set_function(networks.__len__)
        # A key is the length of the address and the beginning of it.
        key_bytes = {5: 1 + limits.network_v4 // 8, 17: 1 + limits.network_v6 // 8}
        scopes.append(Scope(_allowance(limits, limits.network_share), networks, key_bytes))
    return Guard(_lists(settings), tuple(scopes))


def _allowance(limits: config.Limits, share: int) -> Allowance:
    return Allowance(
        share * limits.client_connections,
        Rate(share * limits.connection_rate, share * limits.connection_burst),
        Rate(share * limits.challenge_rate, share * limits.challenge_burst),
        # Checked when one connects, so that all who are connected may fail at once.
        Rate(share * limits.failure_rate, share * limits.failure_burst, _DEBT),
    )


def _lists(settings: Settings) -> Lists:
    return Lists(Networks(settings.limits.allow), Networks(settings.limits.deny))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
