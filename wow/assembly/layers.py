"""What lies between sockets and what is served there, made from the settings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from structlog.typing import FilteringBoundLogger

from wow.assembly.gate import HEADERS_AWAITED, prefix_bits
from wow.config import Settings
from wow.identity import Identities
from wow.layers import Layers
from wow.metrics import Metrics
from wow.networks import Networks
from wow.offenders import Offenders
from wow.pow.token import bind
from wow.proxy.layer import ProxyLayer
from wow.proxy.waiting import WaitingRoom


def build_layers(
    settings: Settings,
    balancers: Offenders,
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> Layers:
    """
    The layers of a server's endpoints.

    @param balancers: is told who sends headers and is not believed.
    """
    bits = prefix_bits(settings.limits)
    make_proxy_layer = partial(
        ProxyLayer,
        trusted=Networks(settings.proxy.networks),
        room=WaitingRoom(HEADERS_AWAITED, settings.proxy.timeout, reactor),
        refused=metrics.proxy_refused,
        turned_away=lambda address: balancers.turned_away(bind(address, *bits)),
        log=log,
    )
    identities = Identities(partial(datetime.now, UTC), metrics.certificate_expiry, log)
    return Layers(make_proxy_layer, identities, reactor)


def prepare_layers(layers: Layers, settings: Settings) -> Callable[[], None]:
    """
    Read what the layers take from new settings.

    @return: puts it in force.
    @raise BadCertificate: if a certificate cannot be used. Then nothing changes.
    """
    endpoints = {**settings.endpoints, "admin.listen": settings.admin.endpoint}
    return layers.prepare(endpoints, Networks(settings.proxy.networks))
