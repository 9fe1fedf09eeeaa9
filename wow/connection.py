"""
A client's connection: Twisted's, with its shortest way from the socket to the
protocol and back.
"""

from __future__ import annotations

import socket
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any, NamedTuple

from twisted.internet import error, main, tcp
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from wow.lane import Detour, Lane

_GONE = EPOLLERR | EPOLLHUP
_log = Logger()

DONE = Failure(error.ConnectionDone())
LOST = Failure(error.ConnectionLost())
"""Why most connections end. Failures without a traceback can be used again."""


@implementer(IAddress)
class Peer(NamedTuple):
    """
    Where a connection comes from. It costs a tenth of Twisted's addresses.

    @ivar host: None where there are no addresses.
    """

    host: str | None
    port: int


class Connection(tcp.Server):
    """
    A connection that was accepted.

    What it does beside Twisted's: it takes a L{Lane}, so that it gets its
    events itself; it sends without detours; and it closes with one system
    call, since no other process has its socket.
    """

    # What the long way of making one would set.
    connected = 1
    server: Any = None
    sessionno = 0
    logstr = "Connection"
    repstr = "<Connection>"
    # No other process has the socket, so to close it is enough.
    _shouldShutdown = False

    def __init__(
        self,
        accepted: socket.socket,
        protocol: IProtocol,
        client: tuple[Any, ...],
        lane: Lane | Detour,
    ) -> None:
        """
        @param accepted: a socket that does not block.
        @param client: where it comes from, as the socket says it.
        """
        self.socket = accepted
        self.fileno = accepted.fileno
        self.protocol = protocol
        self.client = client
        self.reactor = lane  # type: ignore[assignment]
        self._tempDataBuffer = []
        self._tempDataLen = 0

    def ready(self, events: int) -> None:
        """Something happened to the socket: events as C{poll(2)} gives them."""
        try:
            if events & EPOLLIN:
                self.doRead()
            elif events & _GONE:
                self.connectionLost(LOST)
            if events & EPOLLOUT and not self.disconnected and (why := self.doWrite()):
                self.connectionLost(DONE if why is main.CONNECTION_DONE else LOST)
        except Exception:
            failure = Failure()
            _log.failure("Unhandled error", failure)
            self.connectionLost(failure)

    def doRead(self) -> None:
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return
        except OSError:
            self.connectionLost(LOST)
            return
        if data:
            self.protocol.dataReceived(data)
        else:
            self.connectionLost(DONE)

    def writeSomeData(self, data: bytes) -> Any:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return main.CONNECTION_LOST

    def connectionLost(self, reason: Failure) -> None:
        if self.disconnected:
            return
        self.disconnected = 1
        self.connected = 0
        self.reactor.forget(self)  # type: ignore[attr-defined]
        if self.producer is not None:
            self.producer.stopProducing()
            self.producer = None
        # To ask a failure what it is costs more than all the rest of this.
        self._closeSocket(reason is DONE or not reason.check(error.ConnectionAborted))
        protocol = self.protocol
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(reason)
