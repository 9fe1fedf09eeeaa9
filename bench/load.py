"""
A closed loop of exchanges: so many clients at a time, each with one exchange after the other.

The servers measured with it ask one hash a round, so that any nonce solves
it: what is measured is the server. Clients come from many addresses of
127.0.0.0/8. The generator never sleeps: waking a process on another core is
charged to the one that writes to it, and on a virtual machine costs as much
as the exchange.
"""

from __future__ import annotations

import re
import selectors
import socket
from collections.abc import Iterator

REQUEST = b'{"type":"request","resource":"quote"}'
_TOKEN = re.compile(rb'"challenge":"([A-Za-z0-9_-]+)"')
_NONCES = b",".join(b"%d" % nonce for nonce in range(1000, 1008))


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


_REQUEST = framed(REQUEST)


class Client:
    """One connection, and how many exchanges are left for it."""

    def __init__(self, port: int, source: str, exchanges: int) -> None:
        self.socket = socket.socket()
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = exchanges
        self.socket.sendall(_REQUEST)

    def proceed(self) -> bool:
        """
        Read an answer, and say what comes next.

        @return: whether anything does.
        @raise AssertionError: if the answer is neither a challenge nor a quote.
        """
        answer = self._receive()
        token = _TOKEN.search(answer)
        if token is not None:
            self.socket.sendall(
                framed(b'{"type":"solution","challenge":"%b","nonces":[%b]}' % (token[1], _NONCES))
            )
            return True
        assert b'"type":"quote"' in answer, answer
        self._left -= 1
        if self._left:
            self.socket.sendall(_REQUEST)
        return self._left > 0

    def _receive(self) -> bytes:
        data = self.socket.recv(65536)
        while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            more = self.socket.recv(65536)
            assert more, "the server closed"
            data += more
        return data


def exchanges(port: int, count: int, per_connection: int, clients: int = 32) -> None:
    """
    Make exchanges with the server on a port of loopback.

    @param per_connection: how many share a connection.
    @param clients: how many connections there are at a time.
    """
    sources = _sources()
    waiting = count // per_connection
    with selectors.EpollSelector() as selector:
        while waiting or selector.get_map():
            while waiting and len(selector.get_map()) < clients:
                waiting -= 1
                client = Client(port, next(sources), per_connection)
                selector.register(client.socket, selectors.EVENT_READ, client)
            for key, _ in selector.select(0):
                if not key.data.proceed():
                    selector.unregister(key.fileobj)
                    key.data.socket.close()


def _sources() -> Iterator[str]:
    while True:
        for number in range(60_000):
            yield f"127.0.{1 + number // 250}.{1 + number % 250}"
