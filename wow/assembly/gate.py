"""Who gets in, and what they may do: the gate and its watchers, made from the settings."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from structlog.typing import FilteringBoundLogger

from wow import config
from wow.census import Census
from wow.clients import Clients
from wow.config import Settings
from wow.descriptors import raise_limit, room
from wow.guard import Allowance, Guard, Lists, Scope
from wow.metrics import Metrics
from wow.networks import Networks
from wow.offenders import Offenders
from wow.pow.service import ProofOfWork
from wow.rate import Rate
from wow.seats import Seats
from wow.server import Gate, GateProtocol, Limits
from wow.sieve import Sieve

_OTHER_DESCRIPTORS = 128
"""
File descriptors for what is not a connection: the store, the log, operators,
sources, and connections that are being closed.
"""

HEADERS_AWAITED = 512
"""
Connections from balancers whose header has not come yet. It comes with the
first packet, so these are few.
"""

_DEBT = 5
"""Bursts of failures that are held against a client; then no more are."""


def build_gate(
    settings: Settings,
    proof_of_work: ProofOfWork,
    watchers: Sequence[Sieve | Offenders],
    make_protocol: Callable[..., GateProtocol],
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> Gate:
    """
    The gate before this proof of work.

    @param watchers: are told who is turned away.
    @param make_protocol: makes what serves a connection.
    """
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
        Guard(lists(limits), _scopes(limits, metrics)),
        seats,
        Rate(limits.explained, limits.explained),
        turned_away,
        connection_limits(settings),
        prefix_bits(limits),
        reactor,
        metrics,
        log,
        make_protocol,
    )


def build_sieve(
    limits: config.Limits, reactor: Any, metrics: Metrics, log: FilteringBoundLogger
) -> Sieve:
    """What has the kernel drop those who are turned away all the time."""
    sieve = Sieve(prefix_bits(limits), limits.sieve_rate, reactor, random.random, log)
    metrics.sieved_clients.set_function(lambda: sieve.held)
    return sieve


def prefix_bits(limits: config.Limits) -> tuple[int, int]:
    """How many bits of an IPv4 and of an IPv6 address make a client."""
    return limits.prefix_v4, limits.prefix_v6


def lists(limits: config.Limits) -> Lists:
    """Who is allowed and who is denied."""
    return Lists(Networks(limits.allow), Networks(limits.deny))


def _most_connections(settings: Settings, log: FilteringBoundLogger) -> int:
    wanted, descriptors = settings.limits.connections, raise_limit()
    proxied = any(endpoint.proxied for endpoint in settings.endpoints.values())
    others = _OTHER_DESCRIPTORS + (HEADERS_AWAITED if proxied else 0)
    fitting = room(descriptors, wanted, others)
    if fitting < wanted:
        log.warning(
            "few_descriptors",
            meaning=f"{descriptors} file descriptors make room for {fitting} connections "
            f"instead of {wanted}",
            remedy="raise the limit (ulimit -n, LimitNOFILE=), or lower limits.connections",
        )
    return fitting


def connection_limits(settings: Settings) -> Limits:
    """What each connection may do."""
    limits = settings.limits
    return Limits(
        max_frame=limits.frame,
        idle=limits.idle,
        solving=settings.pow.ttl + settings.pow.skew,
        lifetime=limits.lifetime,
        exchanges=limits.exchanges,
        linger=limits.linger,
    )


def allowances(limits: config.Limits) -> list[Allowance]:
    """What each client may do, and each network if these have limits."""
    shares = [1, limits.network_share] if limits.network_share else [1]
    return [_allowance(limits, share) for share in shares]


def _scopes(limits: config.Limits, metrics: Metrics) -> tuple[Scope, ...]:
    clients = Clients(limits.clients)
    metrics.clients.set_function(clients.__len__)
    metrics.max_clients.set(limits.clients)
    client, *network = allowances(limits)
    scopes = [Scope(client, clients, {5: 5, 17: 17})]
    for allowance in network:
        networks = Clients(limits.clients)
        metrics.networks.set_function(networks.__len__)
        # A key is the length of the address and the beginning of it.
        key_bytes = {5: 1 + limits.network_v4 // 8, 17: 1 + limits.network_v6 // 8}
        scopes.append(Scope(allowance, networks, key_bytes))
    return tuple(scopes)


def _allowance(limits: config.Limits, share: int) -> Allowance:
    return Allowance(
        share * limits.client_connections,
        Rate(share * limits.connection_rate, share * limits.connection_burst),
        Rate(share * limits.challenge_rate, share * limits.challenge_burst),
        # Checked when one connects, so that all who are connected may fail at once.
        Rate(share * limits.failure_rate, share * limits.failure_burst, _DEBT),
    )
