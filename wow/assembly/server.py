"""One process's server: everything that it takes to serve clients, built and joined."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from attrs import asdict, frozen
from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service

from wow.admin.health import Check, Health
from wow.assembly.gate import (
    allowances,
    build_gate,
    build_sieve,
    connection_limits,
    lists,
    prefix_bits,
)
from wow.assembly.layers import build_layers, prepare_layers
from wow.assembly.quotes import build_quotes
from wow.config import Settings
from wow.debug.debugger import Debugger
from wow.endpoint import Endpoint
from wow.entrance import Entrance
from wow.fingerprint import fingerprint
from wow.heap import Heap, find_trim
from wow.lane import Detour, Lane
from wow.layers import Layers
from wow.lifecycle import Drain
from wow.loop import LoopMeter, attach
from wow.metrics import Metrics
from wow.offenders import Offenders
from wow.packet_filter import detach
from wow.pow.keys import KeyRing
from wow.pow.pricing import Pricing, Repricing
from wow.pow.purge import Purge
from wow.pow.resource import IProtectedResource
from wow.pow.service import ProofOfWork
from wow.pow.spent import ISpentStore
from wow.server import Gate, GateProtocol
from wow.sieve import Sieve
from wow.stores import build_spent


@frozen
class Server:
    """
    What serves clients. It knows neither where they come from nor who operates it.

    @ivar parts: in the order in which to start them.
    @ivar sieve: is stopped before the doors are closed, so that it holds nobody
        back from whoever takes them over.
    """

    parts: tuple[Service, ...]
    metrics: Metrics
    health: Health
    layers: Layers
    drain: Drain
    sieve: Sieve
    debugger: Debugger
    _gate: Gate
    _pricing: Pricing
    _repricing: Repricing
    _lane: Lane | Detour
    _endpoints: Mapping[str, Endpoint]
    _factories: Mapping[str, Any]
    _backlog: int

    def entrance(self, key: str, listening: socket.socket, shared: bool) -> Entrance:
        """
        What lets clients in.

        @param key: that of their endpoint in the configuration.
        @param listening: where they wait.
        @param shared: whether other processes let them in from there too.
        """
        # With one program for all processes, they would undo each other's. And
        # behind a balancer whoever is turned away has its address for the
        # kernel, and so have all the others.
        if not (shared or self._endpoints[key].proxied):
            # Whom a process before this one had it drop.
            with suppress(OSError):
                detach(listening)
            self.sieve.add(listening)
        return Entrance(listening, self._factories[key], self._lane, self._backlog)

    def prepare(self, settings: Settings) -> Callable[[], None]:
        """
        Read what can be taken from new settings without a restart.

        @param settings: those in force, but for what is in L{wow.reload.LIVE}.
        @return: puts it in force.
        @raise BadCertificate: if a certificate cannot be used. Then nothing changes.
        """
        put_layers_in_force = prepare_layers(self.layers, settings)

        networks = lists(settings.limits)

        def put_in_force() -> None:
            put_layers_in_force()
            self._gate.enforce(networks)
            # Some of those held back may be allowed now.
            self.sieve.pardon()
            self._gate.guard.allow(allowances(settings.limits))
            self._gate.limits = connection_limits(settings)
            self._reprice(settings)
            self.metrics.configuration.info({"hash": fingerprint(settings)})

        return put_in_force

    def _reprice(self, settings: Settings) -> None:
        self._pricing.change(**_prices(settings))
        self._repricing.period = settings.pow.period
        self.metrics.base_price.set(settings.pow.effort)
        self.metrics.load.set(settings.pow.load)

    def sign_with(self, keys: KeyRing) -> None:
        """Sign and verify with other keys from now on."""
        self._gate.proof_of_work.keys = keys
        _show_keys(keys, self.metrics)


def build(
    settings: Settings,
    keys: KeyRing,
    environ: Mapping[str, str],
    reactor: Any,
    log: FilteringBoundLogger,
) -> Server:
    """
    Build a server from its settings.

    @param keys: that challenges are signed with.
    """
    metrics = Metrics()
    metrics.configuration.info({"hash": fingerprint(settings)})
    _show_keys(keys, metrics)
    meter = LoopMeter(time.monotonic)
    metrics.registry.register(meter)
    lane = _make_lane(reactor, meter, log)
    pricing = _build_pricing(settings, meter, metrics)
    quotes = build_quotes(settings.quotes, environ, reactor, metrics, log)
    spent = build_spent(settings, environ, reactor, metrics, log)
    proof_of_work = _build_proof_of_work(settings, keys, pricing, spent, quotes, metrics)
    sieve = build_sieve(settings.limits, reactor, metrics, log)
    offenders = Offenders(prefix_bits(settings.limits), reactor, log)
    make_protocol, exporters = _build_tracing(settings, environ, reactor, metrics, log)
    watchers: list[Sieve | Offenders] = [sieve, offenders]
    gate = build_gate(settings, proof_of_work, watchers, make_protocol, reactor, metrics, log)
    health = Health(
        {
            "spent": Check(lambda: spent.trouble, spent.status),
            "quotes": Check(lambda: quotes.trouble, lambda: asdict(quotes.status())),
            "gate": Check(lambda: "shutting down" if gate.draining else None),
        }
    )
    repricing = Repricing(pricing, settings.pow.period, reactor, random.random, log)
    drain = Drain(gate, settings.limits.drain, log)
    balancers = Offenders(prefix_bits(settings.limits), reactor, log, "proxy_refused")
    layers = build_layers(settings, balancers, reactor, metrics, log)
    parts = (
        *exporters,
        _build_purge(settings, spent, reactor, metrics, log),
        quotes,
        Heap(find_trim(), reactor),
        repricing,
        offenders,
        balancers,
        drain,
    )
    endpoints = settings.endpoints
    return Server(
        parts,
        metrics,
        health,
        layers,
        drain,
        sieve,
        Debugger(reactor, gate.seats, log),
        gate,
        pricing,
        repricing,
        lane,
        endpoints,
        {key: layers.over(gate, key, endpoint) for key, endpoint in endpoints.items()},
        settings.limits.backlog,
    )


def _build_tracing(
    settings: Settings,
    environ: Mapping[str, str],
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> tuple[Callable[..., GateProtocol], list[Service]]:
    if settings.tracing.endpoint is None:
        return GateProtocol, []
    # It takes a while, and what it needs may not even be installed.
    from wow.assembly.tracing import build_tracing

    make_protocol, exporter = build_tracing(settings, environ, reactor, metrics, log)
    return make_protocol, [exporter]


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
        **_prices(settings),
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


def _prices(settings: Settings) -> dict[str, Any]:
    price = settings.pow
    return {
        "base": price.effort,
        "floor": price.floor,
        "ceiling": price.ceiling,
        "rounds": price.rounds,
        "load": price.load,
    }


def _show_keys(ring: KeyRing, metrics: Metrics) -> None:
    """Tell operators the ids of keys, in the place of those before."""
    metrics.keys.clear()
    signing = ring.signing.id.hex()
    for key_id in ring.ids():
        metrics.keys.labels(key_id, "signs" if key_id == signing else "verifies").set(1)
    metrics.key_created.clear()
    if (created := ring.signing.created) is not None:
        metrics.key_created.labels(signing).set(created.timestamp())


def _build_proof_of_work(
    settings: Settings,
    keys: KeyRing,
    pricing: Pricing,
    spent: ISpentStore,
    quotes: IProtectedResource,
    metrics: Metrics,
) -> ProofOfWork:
    return ProofOfWork(
        keys=keys,
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


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
