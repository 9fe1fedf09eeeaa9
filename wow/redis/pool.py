"""Some connections to a Redis server, made again whenever they end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from wow.redis.connection import Connection, Login

_REST = 0.5
"""
Seconds from the end of a connection, or of an attempt to make one, to the next
attempt, with up to as many more, so that many servers do not come at once. It
does not grow: an attempt is cheap, and to be back late is not.
"""


class Pool(Factory):
    """
    A number of connections to one server: L{wow.redis.interfaces.IPool}.

    @ivar failure: why the last one ended or was not made, or None.
    """

    noisy = False
    failure: str | None = None

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        size: int,
        login: Login,
        timeout: float,
        clock: IReactorTime,
        jitter: Callable[[], float],
    ) -> None:
        """
        @param size: how many connections.
        @param timeout: seconds for one command.
        @param jitter: gives numbers from 0 to 1.
        """
        self._login = login
        self._timeout = timeout
        self._clock = clock
        self._made: list[Connection] = []
        self._ready: list[Connection] = []

        def rest(attempt: int) -> float:
            return _REST * (1 + jitter())

        watched = _Watched(endpoint, self._missed)
        self._services = [ClientService(watched, self, rest, clock) for _ in range(size)]

    def start(
        self, greet: Callable[[Connection], Awaitable[object]], changed: Callable[[], object]
    ) -> None:
        """See L{wow.redis.interfaces.IPool.start}."""
        self._greet = greet
        self._changed = changed
        for service in self._services:
            service.startService()

    def stop(self) -> Deferred[None]:
        """See L{wow.redis.interfaces.IPool.stop}."""
        for connection in list(self._made):
            connection.close()
        stopped = gatherResults([service.stopService() for service in self._services])
        return stopped.addCallback(lambda _: None)

    def pick(self) -> Connection | None:
        """See L{wow.redis.interfaces.IPool.pick}."""
        if len(self._ready) < 2:
            return self._ready[0] if self._ready else None
        # By turns where all are idle, so that one that has died is found out.
        self._ready.append(self._ready.pop(0))
        return min(self._ready, key=lambda connection: connection.in_flight)

    def keep(self, wanted: Callable[[Connection], bool]) -> None:
        """See L{wow.redis.interfaces.IPool.keep}."""
        for connection in [each for each in self._ready if not wanted(each)]:
            self._ready.remove(connection)
            connection.close()

    def __len__(self) -> int:
        return len(self._ready)

    # Called by Twisted and by the connections

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        connection = Connection(
            self._login, self._timeout, self._greet, self._became_ready, self._ended, self._clock
        )
        connection.factory = self
        self._made.append(connection)
        return connection

    def _became_ready(self, connection: Connection) -> None:
        self._ready.append(connection)
        self._changed()

    def _ended(self, connection: Connection, why: str) -> None:
        self._made.remove(connection)
        if connection in self._ready:
            self._ready.remove(connection)
        self._missed(why)

    def _missed(self, why: str) -> None:
        self.failure = why
        self._changed()


@implementer(IStreamClientEndpoint)
class _Watched:
    """An endpoint that tells why a connection could not be made."""

    def __init__(self, endpoint: IStreamClientEndpoint, missed: Callable[[str], None]) -> None:
        self._endpoint = endpoint
        self._missed = missed

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint.connect}."""
        connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        return connecting.addErrback(self._failed)

    def _failed(self, failure: Failure) -> Failure:
        self._missed(failure.getErrorMessage())
        return failure
