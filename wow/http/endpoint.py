"""Connections to APIs, each with a bound on all that it may bring."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer


class _Bounded(ProtocolWrapper):
    """Hangs up on whoever sends too much, be it headers, which no parser counts."""

    factory: _BoundedFactory
    transport: Any
    _received = 0

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self.factory.max_bytes:
            self.transport.abortConnection()
        else:
            super().dataReceived(data)


class _BoundedFactory(WrappingFactory):
    protocol = _Bounded
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, max_bytes: int) -> None:
        super().__init__(wrapped)
        # Or the log had two lines for each request.
        wrapped.noisy = False  # type: ignore[attr-defined]
        self.max_bytes = max_bytes


@implementer(IStreamClientEndpoint)
@frozen
class BoundedEndpoint:
    """An endpoint whose connections bring no more than so many bytes."""

    endpoint: IStreamClientEndpoint
    max_bytes: int

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint.connect}."""
        connecting: Deferred[Any] = self.endpoint.connect(
            _BoundedFactory(protocolFactory, self.max_bytes)
        )
        return connecting.addCallback(lambda wrapper: wrapper.wrappedProtocol)


@implementer(IAgentEndpointFactory)
@frozen
class BoundedEndpoints:
    """
    Makes the endpoints of an agent, for C{http} and C{https}.

    @ivar timeout: seconds for connecting.
    @ivar max_bytes: that one connection may bring, decrypted.
    """

    reactor: Any
    timeout: float
    max_bytes: int
    policy: IPolicyForHTTPS

    def endpointForURI(self, uri: URI) -> BoundedEndpoint:
        """See L{IAgentEndpointFactory.endpointForURI}."""
        endpoint: IStreamClientEndpoint = HostnameEndpoint(
            self.reactor, uri.host, uri.port, self.timeout
        )
        if uri.scheme == b"https":
            creator = self.policy.creatorForNetloc(uri.host, uri.port)
            endpoint = wrapClientTLS(creator, endpoint)
        return BoundedEndpoint(endpoint, self.max_bytes)
