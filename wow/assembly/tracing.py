"""Exchanges told to a collector: what traces them, and what exports that."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from uuid import uuid4

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME, SERVICE_VERSION
from opentelemetry.trace import Tracer
from structlog.typing import FilteringBoundLogger
from twisted.application.internet import backoffPolicy
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool

from wow import __version__, config
from wow.config import Settings
from wow.http.client import Client
from wow.http.endpoint import BoundedEndpoints
from wow.metrics import Metrics
from wow.networks import Networks
from wow.secret import reveal
from wow.tracing.choice import Choice
from wow.tracing.collector import Collector
from wow.tracing.exporter import Exporter
from wow.tracing.protocol import TracedProtocol

_TIMEOUT = 5.0
"""Seconds that a collector has for a batch."""

_MOST_BYTES = 65536
"""Of an answer of a collector's, headers and body together."""

_LONGEST_REST = 60.0
"""Seconds between two attempts while they fail."""


_FAREWELL = 2.0
"""Seconds that the last spans have, at most, once all clients are gone."""


def build_tracing(
    settings: Settings,
    environ: Mapping[str, str],
    reactor: Any,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> tuple[Callable[..., TracedProtocol], Exporter]:
    """
    Tracing, for settings that have an endpoint for it.

    @return: what serves connections in the place of a
        L{wow.server.GateProtocol}, and what has to be started for it.
    """
    tracing, limits = settings.tracing, settings.limits
    farewell = min(limits.drain, _FAREWELL)
    exporter = Exporter(
        _build_collector(tracing, environ, reactor),
        reactor,
        backoffPolicy(maxDelay=_LONGEST_REST, jitter=random.random),
        farewell,
        metrics.spans,
        log,
    )
    choice = Choice(
        _make_tracer(exporter),
        tracing.ratio,
        Networks(tracing.networks),
        (limits.network_v4, limits.network_v6),
        random.random,
        time.time_ns,
    )
    return partial(TracedProtocol, choice), exporter


def _build_collector(
    tracing: config.Tracing, environ: Mapping[str, str], reactor: Any
) -> Collector:
    endpoints = BoundedEndpoints(reactor, _TIMEOUT, _MOST_BYTES, BrowserLikePolicyForHTTPS())
    pool = HTTPConnectionPool(reactor, persistent=False)
    agent = Agent.usingEndpointFactory(reactor, endpoints, pool)
    client = Client(agent, reactor, _TIMEOUT, _MOST_BYTES)
    headers = {name: reveal(value, environ) for name, value in tracing.headers.items()}
    return Collector(client, str(tracing.endpoint), headers)


def _make_tracer(exporter: Exporter) -> Tracer:
    # Which exchanges are traced is decided before a span is made. And it is
    # ended with the server's parts, not with the interpreter.
    provider = TracerProvider(ALWAYS_ON, _describe_service(), shutdown_on_exit=False)
    provider.add_span_processor(exporter)
    return provider.get_tracer("wow", __version__)


def _describe_service() -> Resource:
    instance = {
        SERVICE_NAME: "wow",
        SERVICE_VERSION: __version__,
        # Not among the stable conventions yet.
        "service.instance.id": str(uuid4()),
    }
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before.
    return Resource(instance).merge(OTELResourceDetector().detect())
