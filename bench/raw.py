"""
The least that could do the work without Twisted: a loop over epoll.

It signs, checks and spends what the bare loop does, with plain sockets and a
few lines of Python between the system calls. So it shows how far any server
can get whose every exchange goes through the interpreter.

Run as C{python -m bench.raw DIRECTORY}; it prints its port and serves until
it is terminated.
"""

from __future__ import annotations

import select
import socket
import sys

import lmdb
import msgspec

from bench.bare import Work
from wow.wire import ClientMessage

_MOST_EVENTS = 64
_ACCEPTED_AT_ONCE = 32
_READ_AT_ONCE = 8192


class Connection:
    __slots__ = ("read", "socket", "work")

    def __init__(self, accepted: socket.socket, host: str, store: lmdb.Environment) -> None:
        self.socket = accepted
        self.read = accepted.recv
        self.work = Work(store, host)


class Loop:
    def __init__(self, listening: socket.socket, store: lmdb.Environment) -> None:
        self._listening = listening
        self._store = store
        self._decode = msgspec.json.Decoder(ClientMessage).decode
        self._encode = msgspec.json.Encoder().encode
        self._connections: dict[int, Connection] = {}
        self._epoll = select.epoll()
        self._epoll.register(listening, select.EPOLLIN)

    def run(self) -> None:
        find = self._connections.get
        while True:
            for descriptor, _ in self._epoll.poll(-1, _MOST_EVENTS):
                connection = find(descriptor)
                if connection is None:
                    self._accept()
                elif not self._read(connection):
                    del self._connections[descriptor]
                    connection.socket.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, (host, _) = self._listening.accept()
            except BlockingIOError:
                return
            accepted.setblocking(False)
            connection = Connection(accepted, host, self._store)
            self._connections[accepted.fileno()] = connection
            self._epoll.register(accepted, select.EPOLLIN)
            self._read(connection)

    def _read(self, connection: Connection) -> bool:
        # A frame, which is taken to come in one piece; or the end.
        try:
            data = connection.read(_READ_AT_ONCE)
        except BlockingIOError:
            return True
        if data:
            body = self._encode(connection.work.answer(self._decode(data[4:])))
            connection.socket.send(len(body).to_bytes(4, "big") + body)
        return bool(data)


def main(directory: str) -> None:
    store = lmdb.open(directory, map_size=2**30, sync=False)
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listening.setblocking(False)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    print(listening.getsockname()[1], flush=True)
    Loop(listening, store).run()


if __name__ == "__main__":
    main(sys.argv[1])
