"""
What attackers are made of: very many connections on one epoll, and what came of them.

An attack is a function of a L{Swarm}. It opens L{Link}s and calls
L{Swarm.turn} until L{Swarm.over}.
"""

from __future__ import annotations

import heapq
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, cycle
from time import monotonic

from bench import messages
from bench.attacks.puzzle import Puzzle
from bench.sockets import begin

_TICK = 0.5
"""Seconds between two entries of the timeline."""

AGAIN = 0.02
"""Seconds until a connection that the server ended is made again, as a rule."""

_SLICE = 20_000
"""Hashes between two looks at the clock."""


def addresses(number: int) -> list[str]:
    """So many addresses of loopback, each of another /24."""
    return [f"127.{1 + index // 200}.{index % 200}.1" for index in range(number)]


class Swarm:
    """
    The attacker.

    @ivar sent: connections begun, those of them that were established or
        C{failed} at once, messages, bytes, hashes.
    @ivar held: connections that are established now.
    @ivar got: answers by their kind, and ends of connections: C{closed} by
        the server or C{reset} by it.
    @ivar told: whatever an attack has to say beside that.
    @ivar timeline: of times (monotonic), quotes got and hashes made until then.
    """

    def __init__(self, port: int, seconds: float, sources: int) -> None:
        """
        @param seconds: for which to attack.
        @param sources: the number of addresses to come from.
        """
        self.port = port
        self.sources = addresses(sources)
        self.until = monotonic() + seconds
        self.sent: Counter[str] = Counter()
        self.got: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self.timeline: list[tuple[float, int, int]] = []
        self.held = 0
        self._next_source = cycle(self.sources)
        self._epoll = select.epoll()
        self._links: dict[int, Link] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._next_tick = 0.0

    @property
    def over(self) -> bool:
        """Whether it is time to end."""
        return monotonic() >= self.until

    def source(self) -> str:
        """The next address, round and round."""
        return next(self._next_source)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Have something called in a turn after so many seconds."""
        heapq.heappush(self._later, (monotonic() + seconds, next(self._order), call))

    def turn(self, patience: float = 0.0) -> None:
        """
        Do what is to be done.

        @param patience: seconds to wait for it, if there is nothing.
        """
        self._tick()
        now = monotonic()
        if self._later:
            patience = min(patience, max(0.0, self._later[0][0] - now))
        for number, events in self._epoll.poll(min(patience, max(0.0, self.until - now)), 512):
            if link := self._links.get(number):
                link.happened(events)
        now = monotonic()
        while self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[2]()

    def rest(self, seconds: float) -> None:
        """Take turns for so long, and wait in between."""
        end = min(self.until, monotonic() + seconds)
        while (left := end - monotonic()) > 0:
            self.turn(min(left, _TICK))

    def solve(self, puzzle: Puzzle) -> bool:
        """
        Solve a challenge, whatever else there is to do.

        @return: whether it was solved before the time was over.
        """
        before, solved = puzzle.hashes, False
        while not (solved or self.over):
            solved = puzzle.advance(_SLICE)
        self.sent["hashes"] += puzzle.hashes - before
        return solved

    def _tick(self) -> None:
        now = monotonic()
        if now >= self._next_tick:
            self._next_tick = now + _TICK
            self.timeline.append((now, self.got["quote"], self.sent["hashes"]))

    # For links.

    def begin(self, source: str, receive_buffer: int | None) -> socket.socket | None:
        """A socket that is being connected, or None where that fails at once."""
        self.sent["connections"] += 1
        try:
            return begin(self.port, source, reset=True, receive_buffer=receive_buffer)
        except OSError:
            self.sent["failed"] += 1
            return None

    def watch(self, link: Link, number: int, events: int) -> None:
        """Have a link's events told to it."""
        if number in self._links:
            self._epoll.modify(number, events)
        else:
            self._links[number] = link
            self._epoll.register(number, events)

    def unwatch(self, number: int) -> None:
        """Forget a link."""
        if self._links.pop(number, None) is not None:
            self._epoll.unregister(number)


class Link:
    """
    One of the attacker's connections. Kinds of attacks say what it does when
    it is L{connected}, has L{heard} something, or is L{lost}.

    @ivar open: whether it is connected or being connected.
    """

    reads = True
    receive_buffer: int | None = None

    def __init__(self, swarm: Swarm, source: str) -> None:
        self.swarm = swarm
        self.source = source
        self.open = False
        self._connected = False
        self._inbox = bytearray()
        self._outbox = b""

    def connect(self) -> None:
        """Connect, or connect again."""
        made = self.swarm.begin(self.source, self.receive_buffer)
        if made is None:
            self.swarm.later(AGAIN, self.connect)
            return
        self._socket = made
        self._connected = False
        self._outbox = b""
        self._inbox.clear()
        self.open = True
        self._watch(select.EPOLLOUT)

    def send(self, data: bytes, count: int = 1) -> bool:
        """
        Send something, now or when there is room.

        @param count: how many messages it is.
        @return: whether it all went at once.
        """
        self.swarm.sent["messages"] += count
        if self._outbox:
            self._outbox += data
            return False
        return self._push(data)

    def drop(self) -> None:
        """Reset the connection."""
        if self.open:
            self.open = False
            self.swarm.held -= self._connected
            self.swarm.unwatch(self._socket.fileno())
            self._socket.close()

    # What there is to say for a kind of attack.

    def connected(self) -> None:
        """The connection is up."""

    def drained(self) -> None:
        """All that was held back is sent."""

    def heard(self, kind: str, frame: bytes) -> None:
        """The server has said something."""

    def lost(self) -> None:
        """The server has ended the connection."""

    # What happens.

    def happened(self, events: int) -> None:
        """Something has happened on the socket."""
        if not self._connected:
            self._establish()
        elif events & select.EPOLLOUT:
            self._flush()
        if self.open and self.reads and events & (select.EPOLLIN | select.EPOLLHUP):
            self._receive()
        elif self.open and events & (select.EPOLLERR | select.EPOLLHUP):
            self._end("reset")

    def _establish(self) -> None:
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._end("reset")
            return
        self._connected = True
        self.swarm.sent["established"] += 1
        self.swarm.held += 1
        self._watch(select.EPOLLOUT if self._outbox else 0)
        self.connected()

    def _flush(self) -> None:
        data, self._outbox = self._outbox, b""
        if self._push(data):
            self._watch(0)
            self.drained()

    def _push(self, data: bytes) -> bool:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # Heard of again by epoll, which is where it is dealt with.
            return True
        self.swarm.sent["bytes"] += sent
        if sent == len(data):
            return True
        self._outbox = data[sent:]
        self._watch(select.EPOLLOUT)
        return False

    def _receive(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self._end("reset")
            return
        if not data:
            self._end("closed")
            return
        self._inbox += data
        for frame in self._frames():
            kind = messages.kind(frame)
            self.swarm.got[kind] += 1
            self.heard(kind, frame)

    def _frames(self) -> Iterator[bytes]:
        for frame in messages.split(self._inbox):
            yield frame
            if not self.open:
                return

    def _end(self, how: str) -> None:
        self.swarm.got[how] += 1
        self.drop()
        self.lost()

    def _watch(self, events: int) -> None:
        wanted = events | (select.EPOLLIN if self.reads else 0)
        self.swarm.watch(self, self._socket.fileno(), wanted)
