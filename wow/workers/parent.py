"""The parent of a server's workers, built and joined. Clients are theirs, operators its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service

from wow.admin.debug import Debug
from wow.admin.lock import Lock
from wow.admin.site import make_site
from wow.assembly.keys import KeyFinder
from wow.config import Settings
from wow.debug.debugger import Debugger
from wow.descriptors import raise_limit
from wow.doors import DoorsToOpen, Opener
from wow.identity import Identities
from wow.layers import Layers
from wow.leave import Leave, LeavingHealth
from wow.lifecycle import Listener, SecondSignal, Signals
from wow.logs import LogFile, set_level
from wow.metrics import make_certificate_expiry
from wow.notify import Notices
from wow.outcomes import Outcomes, ReloadingHealth
from wow.proxy.layer import ProxyLayer
from wow.reload import together
from wow.workers.aggregate import Aggregate, read
from wow.workers.control import Terms
from wow.workers.overview import Overview
from wow.workers.reload import WorkersReload
from wow.workers.spawn import Nursery
from wow.workers.steering import SALT_BYTES, Steering
from wow.workers.supervisor import CAUSES, Supervisor

_ADMIN = "admin.listen"


def build_parent(
    settings: Settings,
    workers: int,
    environ: Mapping[str, str],
    reactor: Any,
    load: Callable[[], Settings],
    rotate: Callable[[], object],
    give_up: Callable[[], None],
    file: LogFile,
    log: FilteringBoundLogger,
) -> list[Service]:
    """
    Build a server of many workers.

    @param load: reads the settings again.
    @param rotate: starts a new log file.
    @param give_up: ends the server, with an error.
    @param file: what workers log is written to.
    @return: its parts, in the order in which to start them.
    """
    # For the pipes and sockets of all workers.
    raise_limit()
    keys = KeyFinder(environ, log)
    terms = Terms(settings, keys.find(settings))
    endpoints, limits = settings.endpoints, settings.limits
    doors = DoorsToOpen(Opener(reactor, workers, limits.backlog), endpoints, log)
    steering = Steering(doors, endpoints, workers, limits, os.urandom(SALT_BYTES), log)
    registry = CollectorRegistry()
    aggregate = Aggregate(partial(read, registry, {}))
    nursery = Nursery(workers, doors, aggregate, reactor, environ, file, log)

    outcomes = Outcomes(registry, time.time)

    def took_over(terms: Terms) -> None:
        reload.took_over(terms)
        set_level(log, terms.settings.log.level)
        steering.steer(terms.settings.limits)

    restarts = _count(registry)
    supervisor = Supervisor(
        workers,
        terms,
        nursery,
        reactor,
        took_over,
        lambda reason: reload.called_off(reason),
        give_up,
        restarts,
        log,
    )
    _show(registry, supervisor)
    layers = _build_layers(registry, reactor, log)
    lock = Lock(settings.admin, environ)

    def prepare_layers(settings: Settings) -> Callable[[], None]:
        return layers.prepare({_ADMIN: settings.admin.endpoint}, ())

    prepare = together(prepare_layers, lock.prepare)
    reload = WorkersReload(terms, load, keys.find, prepare, supervisor, outcomes, log)
    overview = Overview(supervisor)
    leave = Leave(reactor, limits.leave, log)
    health = ReloadingHealth(LeavingHealth(overview, leave), outcomes)
    debug = Debug(Debugger(reactor, (), log).answer, workers, supervisor.look)
    site = make_site(aggregate, health, lock, reactor, debug, overview.refresh)
    admin = settings.admin.endpoint
    notices = Notices(environ, reactor, log)
    return [
        Signals(reactor, notices.around(reload), rotate),
        Listener(reactor, admin, layers.over(site, _ADMIN, admin), log),
        steering,
        supervisor,
        SecondSignal(reactor, supervisor.hurry),
        doors,
        leave,
        notices,
    ]


def _count(registry: CollectorRegistry) -> Counter:
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    restarts = Counter(
        "wow_worker_restarts",
        "Workers started in the place of others, by why: died (by itself), silent (ended, as it "
        "did not answer), late (ended, as it was never ready), reload.",
        ["reason"],
        registry=registry,
    )
    for cause in CAUSES:
        restarts.labels(cause)
    return restarts


def _show(registry: CollectorRegistry, supervisor: Supervisor) -> None:
    workers = Gauge("wow_workers", "Workers that let clients in.", registry=registry)
    workers.set_function(lambda: supervisor.serving)


def _build_layers(registry: CollectorRegistry, reactor: Any, log: FilteringBoundLogger) -> Layers:
    expiry = make_certificate_expiry(registry)
    identities = Identities(partial(datetime.now, UTC), expiry, log)
    # No operator comes by way of a balancer.
    return Layers(partial(ProxyLayer), identities, reactor)
