"""
The honest clients' process: twenty clients that ask for an exchange a second each.

When each exchange begins is fixed in advance and does not wait for the one
before it, so a server that stalls is seen to stall. What is measured is the
wait beyond the work: from when an exchange should have begun until the quote
is there, less the time from a challenge in hand to its solution.

Run as C{python -m bench.attacks.honest PORT}. It begins at once, ends some
seconds after its input does, and prints as JSON what became of each exchange.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections import deque
from dataclasses import asdict, dataclass
from random import Random
from time import monotonic

from bench import messages
from bench.attacks.puzzle import Puzzle
from bench.sockets import begin

CLIENTS = 20
_TRIES = 3
_PATIENCE = 10.0
"""Seconds that a client waits for each answer."""

_RETRY_AFTER = 1.0
"""Seconds until the next try where the server has not said."""

_PARTING = 15.0
"""Seconds that exchanges under way have at the end."""

_SLICE = 1000
"""Hashes between two looks at the sockets: less than a millisecond."""

_FINAL = {"malformed", "frame_too_large", "unknown_resource"}
"""Refusals after which trying again is of no use."""


@dataclass
class Record:
    """
    What became of an exchange.

    @ivar scheduled: when it should have begun (monotonic).
    @ivar wait: seconds beyond solving, until it was served or given up.
    @ivar paid: the effort of the last challenge solved, in hashes.
    @ivar why: it was not served: the last refusal's code, C{reset}, C{closed} or C{timeout}.
    """

    scheduled: float
    wait: float
    served: bool
    tries: int
    solving: float
    paid: int
    why: str


class Exchange:
    """One exchange, with all of its tries."""

    def __init__(self, clients: Clients, source: str, scheduled: float) -> None:
        self._clients = clients
        self._source = source
        self._scheduled = scheduled
        self._tries = 0
        self._solving = 0.0
        self._paid = 0
        self._socket: socket.socket | None = None

    def begin(self) -> None:
        """Try, for the first time or again."""
        self._tries += 1
        self._inbox = bytearray()
        self._asked = False
        self.puzzle: Puzzle | None = None
        self.deadline = monotonic() + _PATIENCE
        try:
            self._socket = begin(self._clients.port, self._source)
        except OSError:
            self._fail("unreachable", None)
            return
        self._clients.watch(self, self._socket, select.EPOLLOUT)

    def happened(self) -> None:
        """Something has happened on the socket."""
        try:
            if self._asked:
                self._receive()
            else:
                self._ask()
        except OSError:
            self._fail("reset", None)

    def solved(self) -> None:
        """The puzzle is."""
        assert self.puzzle is not None
        assert self._socket is not None
        self._solving += monotonic() - self._had
        self._paid = self.puzzle.effort
        self.deadline = monotonic() + _PATIENCE
        try:
            self._socket.send(self.puzzle.solution)
        except OSError:
            self._fail("reset", None)

    def late(self) -> None:
        """An answer did not come."""
        self._fail("timeout", None)

    def give_up(self) -> None:
        """There is no more time."""
        self._tries = _TRIES
        self._fail("unfinished", None)

    def _ask(self) -> None:
        assert self._socket is not None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.send(messages.REQUEST)
        self._asked = True
        self._clients.watch(self, self._socket, select.EPOLLIN)

    def _receive(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(65536)
        if not data:
            self._fail("closed", None)
            return
        self._inbox += data
        for frame in messages.split(self._inbox):
            self._heard(messages.read(frame))
            return

    def _heard(self, message: messages.Message) -> None:
        if message["type"] == "quote":
            self._end(True, "")
        elif message["type"] == "challenge":
            self._had = monotonic()
            self.deadline = self._had + message["expires_in"]
            self.puzzle = Puzzle(message)
            self._clients.solve(self)
        else:
            self._fail(message["code"], message.get("retry_after"))

    def _fail(self, why: str, retry_after: float | None) -> None:
        self._close()
        if self.puzzle is not None and len(self.puzzle.nonces) < self.puzzle.rounds:
            self._solving += monotonic() - self._had
        if self._tries == _TRIES or why in _FINAL:
            self._end(False, why)
        else:
            pause = _RETRY_AFTER if retry_after is None else retry_after
            self._clients.later(pause, self)

    def _end(self, served: bool, why: str) -> None:
        self._close()
        wait = monotonic() - self._scheduled - self._solving
        self._clients.ended(
            self,
            Record(self._scheduled, wait, served, self._tries, self._solving, self._paid, why),
        )

    def _close(self) -> None:
        self._clients.forsake(self)
        if self._socket is not None:
            self._clients.unwatch(self._socket)
            self._socket.close()
            self._socket = None


class Clients:
    """The honest clients: their sockets, and the one core on which they solve."""

    def __init__(self, port: int, first: float) -> None:
        """
        @param first: when the first exchange begins (monotonic).
        """
        self.port = port
        self.records: list[Record] = []
        self._random = Random(1)
        self._poll = select.epoll()
        self._watched: dict[int, Exchange] = {}
        self._exchanges: set[Exchange] = set()
        self._unsolved: deque[Exchange] = deque()
        self._retries: list[tuple[float, Exchange]] = []
        self._second = first
        self._coming: deque[tuple[float, str]] = deque()
        self._asking = True

    def run(self) -> None:
        """Ask until the input ends, and then finish what is under way."""
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        while self._asking:
            self._turn()
        end = monotonic() + _PARTING
        while self._exchanges and monotonic() < end:
            self._turn()
        for exchange in list(self._exchanges):
            exchange.give_up()

    def _turn(self) -> None:
        if self._asking:
            self._schedule()
        for number, _ in self._poll.poll(self._patience(), 64):
            if number == sys.stdin.fileno():
                self._poll.unregister(number)
                self._asking = False
            elif number in self._watched:
                self._watched[number].happened()
        self._keep_time()
        if self._unsolved:
            self._work()

    def _patience(self) -> float:
        if self._unsolved:
            return 0.0
        # Deadlines are looked at now and then; arrivals are to be in time.
        due = [when for when, _ in self._retries]
        if self._asking:
            due.append(self._coming[0][0])
        return max(0.0, min([*due, monotonic() + 0.1]) - monotonic())

    def _schedule(self) -> None:
        """See to it that the arrivals of the second that comes are known."""
        while len(self._coming) < CLIENTS:
            for client in range(CLIENTS):
                when = (client + self._random.random()) / CLIENTS
                self._coming.append((self._second + when, f"127.200.0.{1 + client}"))
            self._second += 1

    def _keep_time(self) -> None:
        now = monotonic()
        while self._asking and self._coming[0][0] <= now:
            when, source = self._coming.popleft()
            exchange = Exchange(self, source, when)
            self._exchanges.add(exchange)
            exchange.begin()
        for retry in [retry for retry in self._retries if retry[0] <= now]:
            self._retries.remove(retry)
            retry[1].begin()
        for exchange in [late for late in self._watched.values() if late.deadline <= now]:
            exchange.late()

    def _work(self) -> None:
        exchange = self._unsolved[0]
        assert exchange.puzzle is not None
        if exchange.puzzle.advance(_SLICE):
            self._unsolved.popleft()
            exchange.solved()

    # For exchanges.

    def watch(self, exchange: Exchange, connection: socket.socket, events: int) -> None:
        """Have what happens on a socket told to its exchange."""
        number = connection.fileno()
        if number in self._watched:
            self._poll.modify(number, events)
        else:
            self._poll.register(number, events)
        self._watched[number] = exchange

    def unwatch(self, connection: socket.socket) -> None:
        """Forget a socket."""
        if self._watched.pop(connection.fileno(), None) is not None:
            self._poll.unregister(connection.fileno())

    def solve(self, exchange: Exchange) -> None:
        """Solve an exchange's puzzle when its turn comes."""
        self._unsolved.append(exchange)

    def forsake(self, exchange: Exchange) -> None:
        """Solve it no further."""
        if exchange in self._unsolved:
            self._unsolved.remove(exchange)

    def later(self, seconds: float, exchange: Exchange) -> None:
        """Have an exchange try again."""
        self._retries.append((monotonic() + seconds, exchange))

    def ended(self, exchange: Exchange, record: Record) -> None:
        """An exchange is over."""
        self._exchanges.discard(exchange)
        self.records.append(record)


def _take_precedence() -> bool:
    try:
        os.nice(-10)
    except PermissionError:
        return False
    return True


def main(port: int) -> None:
    first = _take_precedence()
    clients = Clients(port, monotonic() + 0.1)
    clients.run()
    print(json.dumps({"priority": first, "records": [asdict(each) for each in clients.records]}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
