"""TLS over a listening socket, with a certificate that can be replaced while it listens."""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import Connection
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.protocols.tls import (
    BufferingTLSTransport,
    TLSMemoryBIOFactory,
    TLSMemoryBIOProtocol,
)
from zope.interface import implementer

from wow.certificate import Certificate

_READ = 2**14
"""
Bytes read from a connection in one go, as many as a record of TLS holds. All
of them come out at once, also to whoever has paused.
"""


@implementer(IOpenSSLServerConnectionCreator)
class Identity:
    """
    What a server shows of itself.

    @ivar certificate: may be replaced. New connections are shown the new one;
        those that are open go on.
    """

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        """Make OpenSSL's side of a new connection."""
        return Connection(self.certificate.context, None)


class _Transport(BufferingTLSTransport):
    def makeConnection(self, transport: Any) -> None:
        transport.bufferSize = _READ
        super().makeConnection(transport)


class TlsLayer(TLSMemoryBIOFactory):
    """
    Twisted's, over a factory that may refuse somebody: that costs no
    cryptography, and stays a refusal.
    """

    protocol = _Transport

    def __init__(self, identity: Identity, factory: IProtocolFactory, clock: IReactorTime) -> None:
        super().__init__(identity, False, factory, clock)

    def buildProtocol(self, addr: IAddress | None) -> TLSMemoryBIOProtocol | None:  # type: ignore[override]
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else self.protocol(self, inner)
