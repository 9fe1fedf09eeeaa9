"""One connection of the load generator's, and the exchange under way on it."""

from __future__ import annotations

import select
import socket

from bench.talk import REQUEST


class Lost(Exception):
    """The server has ended a connection: C{closed} or C{reset}."""


class Link:
    """
    A connection, and the one exchange at a time that is made on it.

    @ivar number: of its file descriptor.
    @ivar left: exchanges that it has yet to carry.
    @ivar due: when the one under way should have begun (monotonic).
    """

    def __init__(self, connecting: socket.socket, exchanges: int, epoll: select.epoll) -> None:
        self._socket = connecting
        self.number = connecting.fileno()
        self.left = exchanges
        self.due = 0.0
        self._epoll = epoll
        self._connecting = False
        self._inbox = b""
        epoll.register(self.number, select.EPOLLIN)

    def ask(self) -> None:
        """Send a request, now or once there is a connection, which on loopback is now as a rule."""
        try:
            self.send(REQUEST)
        except BlockingIOError:
            self._connecting = True
            self._epoll.modify(self.number, select.EPOLLOUT)

    def send(self, frame: bytes) -> None:
        """Send a frame, for which there is room, as but one is under way at a time."""
        try:
            self._socket.send(frame)
        except (ConnectionError, TimeoutError):
            # Heard of again by epoll, which is where it is dealt with.
            return

    def hear(self) -> bytes | None:
        """
        Look at what has happened.

        @return: the server's message, once it is complete.
        @raise Lost: if there is none to come.
        """
        if self._connecting:
            self._connecting = False
            self._epoll.modify(self.number, select.EPOLLIN)
            self.ask()
            return None
        try:
            data = self._socket.recv(65536)
        except OSError:
            raise Lost("reset") from None
        if not data:
            raise Lost("closed")
        data = self._inbox + data
        if len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            self._inbox = data
            return None
        self._inbox = b""
        return data

    def close(self) -> None:
        """Close the connection, as a client does."""
        self._socket.close()
