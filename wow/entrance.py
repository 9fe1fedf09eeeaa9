"""
The listening socket, made ready for crowds.

Whoever is turned away costs a system call to accept, one to have the
connection reset instead of closed, and one to close it; then nothing of it is
left, in the kernel neither.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.protocols.policies import WrappingFactory
from zope.interface import implementer

_AT_ONCE = 32
"""
Connections accepted in one go, or some more. Left to itself, Twisted takes
more the more there are, and a flood of them would keep it from all else.
"""

_RESET = struct.pack("ii", True, 0)


def prepare(port: Any, backlog: int) -> None:
    """
    Make a listening port ready.

    @param port: of Twisted's: TCP, TLS, or a Unix socket's.
    @param backlog: connections that wait in the kernel until they are accepted.
    """
    listening = port.socket
    listening.listen(backlog)
    if listening.family in (socket.AF_INET, socket.AF_INET6):
        # Linux hands this on to each connection that is accepted.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    port.socket = _Listening(listening)
    port.numberAccepts = _AT_ONCE
    port.factory = _Entrance(port, port.factory)


class _Listening:
    """
    A listening socket that remembers what it accepted, since a factory is not
    shown the connection that it is asked about.

    @ivar accepted: the last connection.
    """

    accepted: socket.socket

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, as a socket does."""
        self.accepted, address = self._listening.accept()
        return self.accepted, address


@implementer(IProtocolFactory)
class _Entrance:
    """
    Asks a factory for a protocol, which may refuse one, even where TLS is
    wrapped around it. Twisted's wrapping factories do not allow for that.
    """

    def __init__(self, port: Any, factory: Any) -> None:
        self._port = port
        self._factory = factory

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        if self._port.numberAccepts > _AT_ONCE:
            self._port.numberAccepts = _AT_ONCE
        protocol: IProtocol | None
        if isinstance(self._factory, WrappingFactory):
            inner = self._factory.wrappedFactory.buildProtocol(addr)
            protocol = inner and self._factory.protocol(self._factory, inner)
        else:
            protocol = self._factory.buildProtocol(addr)
        if protocol is None:
            self._port.socket.accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return protocol

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()
