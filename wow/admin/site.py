"""
The operators' site: the status page, C{/metrics}, C{/health/live}, C{/health/ready}, C{/debug/}.
All of it is for operators, but that anybody may ask whether the server is well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any, Protocol, cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import NOT_FOUND, SERVICE_UNAVAILABLE
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from wow.admin import status
from wow.admin.channel import STRANGERS, WITHIN, Channel
from wow.admin.lock import Lock, Refusal
from wow.proxy.waiting import WaitingRoom

Refresh = Callable[[bool], Deferred[Any] | None]
"""Brings up to date what is shown: metrics (True) or health."""


class Collected(Protocol):
    """What is collected as a registry of metrics is."""

    def collect(self) -> Iterable[Metric]:
        """The metrics of now."""


class Reported(Protocol):
    """What reports as L{wow.admin.health.Health} does."""

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether the server is ready, and what else is known, fit for JSON."""


_PAGES = b"This is the operators' site of wow: /, /metrics, /health/live, /health/ready, /debug/\n"


class _Page(Resource):
    def __init__(self, content_type: str) -> None:
        super().__init__()
        self._content_type = content_type

    def _write(self, request: IRequest, body: bytes) -> bytes:
        request.setHeader(b"content-type", self._content_type.encode("ascii"))
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-content-type-options", b"nosniff")
        return body


class _Missing(_Page):
    def __init__(self) -> None:
        super().__init__("text/plain; charset=utf-8")

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self

    def render(self, request: Request) -> bytes:
        request.setResponseCode(NOT_FOUND)
        return self._write(request, b"There is no such page. " + _PAGES)


class _Leaf(_Page):
    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Missing()


class _Current(_Leaf):
    """What is shown is brought up to date first."""

    _metrics = False

    def __init__(self, content_type: str, refresh: Refresh) -> None:
        super().__init__(content_type)
        self._refresh = refresh

    def render_GET(self, request: Request) -> bytes | int:
        refreshing = self._refresh(self._metrics)
        if refreshing is None:
            return self._show(request)
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        refreshing.addCallback(lambda _: None if gone else self._finish(request))
        refreshing.addErrback(request.processingFailed)
        return NOT_DONE_YET

    def _finish(self, request: Request) -> None:
        request.write(self._show(request))
        request.finish()

    def _show(self, request: Request) -> bytes:
        raise NotImplementedError


class _Metrics(_Current):
    _metrics = True

    def __init__(self, registry: Collected, refresh: Refresh) -> None:
        super().__init__(CONTENT_TYPE_LATEST, refresh)
        self._registry = registry

    def _show(self, request: Request) -> bytes:
        return self._write(request, generate_latest(cast(CollectorRegistry, self._registry)))


class _Start(_Current):
    _metrics = True

    def __init__(
        self, registry: Collected, health: Reported, refresh: Refresh, now: Callable[[], float]
    ) -> None:
        super().__init__("text/html; charset=utf-8", refresh)
        self._registry = registry
        self._health = health
        self._now = now

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self if path == b"" else _Missing()

    def _show(self, request: Request) -> bytes:
        _, report = self._health.report()
        request.setHeader(b"content-security-policy", status.POLICY.encode())
        return self._write(request, status.render(self._registry.collect(), report, self._now()))


class _File(_Leaf):
    def __init__(self, name: str, content_type: str) -> None:
        super().__init__(content_type)
        self._content = files("wow.admin").joinpath("pages", name).read_bytes()

    def render_GET(self, request: Request) -> bytes:
        return self._write(request, self._content)


class _Live(_Leaf):
    def __init__(self) -> None:
        super().__init__("application/json")

    def render_GET(self, request: Request) -> bytes:
        return self._write(request, b'{"live": true}\n')


class _Ready(_Current):
    """Strangers are told what a probe has to know, and nothing of what is behind the gate."""

    def __init__(self, health: Reported, refresh: Refresh, lock: Lock) -> None:
        super().__init__("application/json", refresh)
        self._health = health
        self._lock = lock

    def _show(self, request: Request) -> bytes:
        ready, report = self._health.report()
        if self._lock.refusal(request) is not None:
            report = {"ready": ready}
        if not ready:
            request.setResponseCode(SERVICE_UNAVAILABLE)
        return self._write(request, json.dumps(report, indent=1).encode() + b"\n")


class _Refused(_Page):
    isLeaf = True

    def __init__(self, refusal: Refusal) -> None:
        super().__init__("text/plain; charset=utf-8")
        self._refusal = refusal

    def render(self, request: Request) -> bytes:
        request.setResponseCode(self._refusal.status)
        for scheme in self._refusal.schemes:
            request.responseHeaders.addRawHeader(b"www-authenticate", scheme.encode())
        return self._write(request, self._refusal.text.encode())


_FOR_ANYBODY = ([b"health", b"live"], [b"health", b"ready"])


class _GuardedSite(Site):
    """All requests come by here, so that no page can be without its lock."""

    # Probes come every few seconds and would drown the log.
    noisy = False

    def __init__(self, tree: Resource, lock: Lock, clock: IReactorTime) -> None:
        super().__init__(tree, timeout=30, reactor=clock)
        self._lock = lock
        strangers = WaitingRoom(STRANGERS, WITHIN, clock)
        self.protocol = lambda: Channel(strangers)  # type: ignore[assignment,return-value]

    def getResourceFor(self, request: Request) -> Resource:
        channel = cast(Channel, request.channel)
        refusal = self._lock.refusal(request)
        if refusal is None:
            channel.admit()
        else:
            channel.persistent = False
            request.setHeader(b"connection", b"close")
            if request.postpath not in _FOR_ANYBODY:
                return _Refused(refusal)
        return cast(Resource, super().getResourceFor(request))

    def log(self, request: object) -> None:
        pass


def make_site(
    registry: Collected,
    health: Reported,
    lock: Lock,
    clock: IReactorTime,
    debug: Resource,
    refresh: Refresh = lambda metrics: None,
    now: Callable[[], float] = time.time,
) -> Site:
    """
    The site that serves these metrics and this health.

    @param debug: the pages below C{/debug/}.
    @param refresh: may give a Deferred that fires when all is up to date.
    @param now: seconds since the epoch.
    """
    start = _Start(registry, health, refresh, now)
    start.putChild(b"status.css", _File("status.css", "text/css; charset=utf-8"))
    start.putChild(b"status.js", _File("status.js", "text/javascript; charset=utf-8"))
    start.putChild(b"metrics", _Metrics(registry, refresh))
    pages = _Missing()
    pages.putChild(b"live", _Live())
    pages.putChild(b"ready", _Ready(health, refresh, lock))
    start.putChild(b"health", pages)
    start.putChild(b"debug", debug)
    return _GuardedSite(start, lock, clock)
