"""How to reach a Redis server: by its name, or by asking Sentinels which it is now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import txredisapi
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS, platformTrust
from zope.interface import implementer

from wow.redis import certificates
from wow.redis.errors import RedisFailed
from wow.redis.location import Location

Reach = Callable[[str, int], IStreamClientEndpoint]
"""Gives the endpoint for a host and a port."""


def endpoint_for(
    location: Location, ca: Path | None, timeout: float, reactor: Any
) -> IStreamClientEndpoint:
    """
    How to reach a server.

    @param ca: a file with the certificates to trust, or None for those that
        the system trusts.
    @param timeout: seconds for connecting, and for a Sentinel's answer.
    """

    def plain(host: str, port: int) -> IStreamClientEndpoint:
        return HostnameEndpoint(reactor, host, port, timeout)

    trust = certificates.read(ca) if ca else platformTrust()

    def encrypted(host: str, port: int) -> IStreamClientEndpoint:
        # Refuses whoever has no certificate for that name.
        return wrapClientTLS(optionsForClientTLS(host, trust), plain(host, port))

    reach = encrypted if location.tls else plain
    if location.master is None:
        return reach(*location.servers[0])
    return SentinelEndpoint(location.servers, location.master, reach, timeout, reactor)


@implementer(IStreamClientEndpoint)
class SentinelEndpoint:
    """
    The master that Sentinels know by a name, asked for before each connection.

    txredisapi's own does not encrypt, and is never done with a Sentinel that
    cannot be reached.
    """

    def __init__(
        self,
        sentinels: Sequence[tuple[str, int]],
        master: str,
        reach: Reach,
        timeout: float,
        clock: IReactorTime,
    ) -> None:
        """
        @param timeout: seconds for the answer of each.
        """
        self._sentinels = list(sentinels)
        self._master = master
        self._reach = reach
        self._timeout = timeout
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint.connect}."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        host, port = await self._find()
        protocol: IProtocol = await self._reach(host, port).connect(factory)
        return protocol

    async def _find(self) -> tuple[str, int]:
        failures = []
        for sentinel in tuple(self._sentinels):
            try:
                found = await self._ask(*sentinel)
            except CancelledError:
                raise
            except Exception as failed:
                failures.append(f"{sentinel[0]}:{sentinel[1]}: {failed}")
                # Those that answer are asked first the next time.
                self._sentinels.remove(sentinel)
                self._sentinels.append(sentinel)
            else:
                return found
        raise RedisFailed(f"no Sentinel knows the master {self._master} ({'; '.join(failures)})")

    async def _ask(self, host: str, port: int) -> tuple[str, int]:
        factory = _SentinelFactory(self._timeout, self._clock)
        sentinel: Any = await self._reach(host, port).connect(factory)
        try:
            return _address(await sentinel.sentinel_get_master_addr_by_name(self._master))
        finally:
            sentinel.transport.abortConnection()


def _address(answer: Iterable[bytes] | None) -> tuple[str, int]:
    if answer is None:
        raise RedisFailed("does not know it")
    host, port = (part.decode("ascii") for part in answer)
    return host, int(port)


class _Sentinel(txredisapi.BaseRedisProtocol):  # type: ignore[misc]
    def connectionMade(self) -> None:
        # txredisapi's own would log in, and tell a pool.
        pass


class _SentinelFactory(Factory):
    noisy = False

    def __init__(self, timeout: float, clock: IReactorTime) -> None:
        self._timeout = timeout
        self._clock = clock

    def buildProtocol(self, addr: object) -> _Sentinel:
        sentinel = _Sentinel(charset=None, replyTimeout=self._timeout, convertNumbers=False)
        sentinel.callLater = self._clock.callLater
        sentinel.factory = self
        return sentinel
