"""
Believes what a balancer says of its clients, and nobody else.

It stands between a listening socket and the factory that serves clients:
whose header is good is handed on, as if the client had come by itself, and
from then on nothing of this is in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from wow.metrics import Tally
from wow.pow.token import pack, text_of
from wow.proxy import Reason
from wow.proxy.header import LONGEST_V2, BadHeader, Header, read
from wow.proxy.waiting import WaitingRoom


class HeaderProtocol(Protocol):
    """The beginning of a connection from a balancer: its header."""

    transport: Any

    def __init__(self, layer: ProxyLayer, peer: IAddress | None, address: bytes) -> None:
        """
        @param peer: where the connection comes from.
        @param address: the same, packed; empty where there is none.
        """
        self._layer = layer
        self._peer = peer
        self._address = address
        self._received = b""

    def connectionMade(self) -> None:
        # No more is read than may be a header, or it would be kept here.
        self._usual_size = self.transport.bufferSize
        self.transport.bufferSize = LONGEST_V2
        self._layer.room.enter(self)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        try:
            header = read(self._received)
        except BadHeader as bad:
            self._layer.room.leave(self)
            self.give_up(bad.reason)
        else:
            if header is not None:
                self._layer.room.leave(self)
                self._hand_on(header)

    def give_up(self, reason: Reason) -> None:
        """Reset the connection."""
        self._layer.refuse(reason, self._address)
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._layer.room.leave(self):
            self._layer.refuse("closed", self._address)

    def _hand_on(self, header: Header) -> None:
        transport, rest = self.transport, self._received[header.length :]
        transport.bufferSize = self._usual_size
        client: Any = self._peer if header.client is None else header.client
        protocol = self._layer.factory.buildProtocol(client)
        if protocol is None:
            transport.abortConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)


class ProxyLayer(Factory):
    """
    What the connections of an endpoint with PROXY headers share.

    @ivar factory: is asked for the protocol of each client.
    @ivar room: where connections wait for their header.
    @ivar trusted: addresses, packed, whose headers are believed. May be
        replaced while the server runs.
    """

    noisy = False

    def __init__(
        self,
        factory: IProtocolFactory,
        trusted: Container[bytes],
        room: WaitingRoom,
        refused: Mapping[Reason, Tally],
        turned_away: Callable[[bytes], None],
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param turned_away: is told the address of each whose connection is
            refused, unless it ended by itself.
        """
        self.factory = factory
        self.trusted = trusted
        self.room = room
        self._refused = refused
        self._turned_away = turned_away
        self._log = log

    def buildProtocol(self, addr: IAddress | None) -> HeaderProtocol | None:
        """Have a balancer's header read. Anybody else's connection is to be reset (None)."""
        address = pack(getattr(addr, "host", None))
        # Who may open a Unix socket is decided by its permissions.
        if address and address not in self.trusted:
            self.refuse("untrusted", address)
            return None
        return HeaderProtocol(self, addr, address)

    def refuse(self, reason: Reason, address: bytes) -> None:
        """A connection is not handed on."""
        self._refused[reason].count += 1
        self._log.debug("proxy_refused", reason=reason, peer=text_of(address))
        if reason != "closed":
            self._turned_away(address)
