"""
The entrance: accepts connections from a listening socket, or turns them away.

Whoever is turned away costs a system call to accept, one to have the
connection reset instead of closed, and one to close it; then nothing of it is
left, in the kernel neither.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from select import EPOLLIN
from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.internet.tcp import _accept, _reservedFD
from twisted.logger import Logger

from wow.connection import Connection, Peer
from wow.lane import Detour, Lane

_AT_ONCE = 32
"""
Connections accepted in one go. Left to itself, Twisted takes more the more
there are, and a flood of them would keep it from all else.
"""

_RESET = struct.pack("ii", True, 0)


class Entrance:
    """One listening socket, and what those who come in by it are connected to."""

    def __init__(
        self, listening: socket.socket, factory: Any, lane: Lane | Detour, backlog: int
    ) -> None:
        """
        @param listening: a socket of IPv4, IPv6 or Unix that does not block.
        @param factory: its C{buildProtocol} may give None to have a connection reset.
        @param backlog: connections that wait in the kernel until they are accepted.
        """
        self._listening = _Listening(listening)
        self._lane = lane
        self._log = Logger(namespace="twisted.internet.tcp.Port")
        listening.listen(backlog)
        if listening.family in (socket.AF_INET, socket.AF_INET6):
            # Linux hands this on to each connection that is accepted.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._build: Callable[[Peer], IProtocol | None] = factory.buildProtocol

    def open(self) -> None:
        """Let them in."""
        self._lane.add_door(self._listening.fileno(), self._answer)

    def close(self) -> None:
        """Let nobody in any more. The socket stays as it is."""
        self._lane.remove_door(self._listening.fileno())

    def _answer(self) -> None:
        newcomers: Any = _accept(self._log, range(_AT_ONCE), self._listening, _reservedFD)
        try:
            for accepted, client in newcomers:
                self._try_to_admit(accepted, client)
        except OSError:
            self._log.failure("Could not accept")

    def _try_to_admit(self, accepted: socket.socket, client: Any) -> None:
        try:
            self._admit(accepted, client)
        except Exception:
            self._log.failure("Unhandled error")
            _reset(accepted)

    def _admit(self, accepted: socket.socket, client: Any) -> None:
        # The name of a Unix socket's peer is a string, and empty.
        peer = Peer(client[0], client[1]) if client else Peer(None, 0)
        protocol = self._build(peer)
        if protocol is None:
            _reset(accepted)
            return
        connection = Connection(accepted, protocol, client, self._lane)
        connection.startReading()
        protocol.makeConnection(connection)
        # Who connects has something to say, and as a rule has said it by now.
        connection.ready(EPOLLIN)


def _reset(accepted: socket.socket) -> None:
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    accepted.close()


class _Listening:
    """A listening socket that accepts in half the time that Python's takes."""

    def __init__(self, listening: socket.socket) -> None:
        self._accept = listening._accept  # type: ignore[attr-defined]
        self.fileno = listening.fileno
        # As plain integers, which the socket would look up and wrap each time.
        self._kind = int(listening.family), int(listening.type), listening.proto

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, as a socket does; it does not block."""
        descriptor, client = self._accept()
        accepted = socket.socket(*self._kind, descriptor)
        accepted.setblocking(False)
        return accepted, client
