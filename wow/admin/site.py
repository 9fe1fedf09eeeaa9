"""The operators' site: C{/metrics}, C{/health/live}, C{/health/ready}."""

from __future__ import annotations

import json

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from twisted.web.http import NOT_FOUND, SERVICE_UNAVAILABLE
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from wow.admin.health import Health

_PAGES = b"This is the operators' site of wow: /metrics, /health/live, /health/ready\n"


class _Page(Resource):
    def __init__(self, content_type: str) -> None:
        super().__init__()
        self._content_type = content_type

    def _write(self, request: IRequest, body: bytes) -> bytes:
        request.setHeader(b"content-type", self._content_type.encode("ascii"))
        request.setHeader(b"cache-control", b"no-store")
        return body


class _Start(_Page):
    def __init__(self) -> None:
        super().__init__("text/plain; charset=utf-8")

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self if path == b"" else _Missing()

    def render_GET(self, request: Request) -> bytes:
        return self._write(request, _PAGES)


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


class _Metrics(_Leaf):
    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(CONTENT_TYPE_LATEST)
        self._registry = registry

    def render_GET(self, request: Request) -> bytes:
        return self._write(request, generate_latest(self._registry))


class _Live(_Leaf):
    def __init__(self) -> None:
        super().__init__("application/json")

    def render_GET(self, request: Request) -> bytes:
        return self._write(request, b'{"live": true}\n')


class _Ready(_Leaf):
    def __init__(self, health: Health) -> None:
        super().__init__("application/json")
        self._health = health

    def render_GET(self, request: Request) -> bytes:
        ready, report = self._health.report()
        if not ready:
            request.setResponseCode(SERVICE_UNAVAILABLE)
        return self._write(request, json.dumps(report, indent=1).encode() + b"\n")


class _QuietSite(Site):
    # Probes come every few seconds and would drown the log.
    noisy = False

    def log(self, request: object) -> None:
        pass


def make_site(registry: CollectorRegistry, health: Health) -> Site:
    """The site that serves these metrics and this health."""
    start = _Start()
    start.putChild(b"metrics", _Metrics(registry))
    pages = _Missing()
    pages.putChild(b"live", _Live())
    pages.putChild(b"ready", _Ready(health))
    start.putChild(b"health", pages)
    return _QuietSite(start, timeout=30)
