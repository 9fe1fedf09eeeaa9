"""TLS over a listening socket."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IProtocolFactory, IReactorTime
from twisted.protocols.tls import (
    BufferingTLSTransport,
    TLSMemoryBIOFactory,
    TLSMemoryBIOProtocol,
)

from wow.identity import Identity

_READ = 2**14
"""
Bytes read from a connection in one go, as many as a record of TLS holds. All
of them come out at once, also to whoever has paused.
"""


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
