"""
The load generator: very many exchanges on one epoll, in a closed or an open loop.

In a closed loop so many clients make one exchange after the other; that shows
what a server can do. In an open loop exchanges begin at a fixed rate whatever
became of those before, as those of strangers do; and what is counted is the
time from when an exchange I{should} have begun. So a server that stalls is
seen to keep everybody waiting who came meanwhile, and not only those whom it
had already let in (the mistake is known as coordinated omission).

The generator never sleeps: waking a process on another core is charged to the
one that writes to it, and on a virtual machine costs as much as an exchange.
Nor does it solve puzzles: the servers that it loads ask one hash a round, so
that any nonces do.
"""

from __future__ import annotations

import re
import select
import socket
from array import array
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic

from bench import messages, talk
from bench.link import Link, Lost
from bench.sockets import addresses, begin

PATIENCE = 30.0
"""Seconds without any answer, after which the server is held to be dead."""

_TOKEN = re.compile(rb'"challenge":"([A-Za-z0-9_-]+)"')
_QUOTE = b'"type":"quote"'
_SOLUTION = b'{"type":"solution","challenge":"%b","nonces":[%b]}'


class Unfit(Exception):
    """The server is none that can be loaded; says why, and what to do."""


@dataclass
class Outcome:
    """
    What came of a load. Times are in seconds.

    @ivar seconds: that it took.
    @ivar latencies: of the exchanges served, from when each should have begun.
    @ivar lateness: how long after it should have each was begun. In an open
        loop, if it is not next to nothing, then there were no connections
        left, or the generator did not keep up.
    @ivar refused: what became of the others: the code of an error, or
        C{closed} or C{reset}.
    """

    seconds: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    lateness: array[float] = field(default_factory=lambda: array("d"))
    refused: Counter[str] = field(default_factory=Counter)


class Generator:
    """
    Makes exchanges with a server on a port of 127.0.0.1, from many addresses.

    A refused exchange is counted, and its connection given up.
    """

    def __init__(self, port: int, *, per_connection: int = 1, connections: int = 32) -> None:
        """
        @param per_connection: exchanges that share a connection, one after the other.
        @param connections: the most exchanges at a time, each on its own.
        @raise Unfit: if the server does not answer as it should.
        """
        self._port = port
        self._per_connection = per_connection
        self._connections = connections
        self._nonces = b",".join([b"1000"] * _greet(port))
        self._sources = addresses()
        self._epoll = select.epoll()
        self._links: dict[int, Link] = {}
        self._idle: list[Link] = []
        self._outcome = Outcome()

    def closed(self, count: int) -> Outcome:
        """Make so many exchanges, each as soon as one before it is over."""
        return self._run(count, 0.0)

    def open(self, count: int, rate: float) -> Outcome:
        """
        Make so many exchanges.

        @param rate: how many are to begin in a second.
        """
        return self._run(count, 1 / rate)

    def close(self) -> None:
        """Close all connections."""
        for link in self._links.values():
            link.close()
        self._epoll.close()

    def _run(self, count: int, interval: float) -> Outcome:
        outcome = self._outcome = Outcome()
        began = monotonic()
        begun, over, heard = 0, 0, began
        while over < count:
            now = monotonic()
            while begun < count and begun - over < self._connections:
                due = began + begun * interval if interval else now
                if due > now:
                    break
                self._begin(due)
                begun += 1
            ended = self._turn()
            over += ended
            if ended or begun == over:
                heard = now
            elif now - heard > PATIENCE:
                raise Unfit(f"{begun - over} exchanges have had no answer for {PATIENCE:.0f} s")
        outcome.seconds = monotonic() - began
        return outcome

    def _begin(self, due: float) -> None:
        link = self._idle.pop() if self._idle else self._connect()
        link.due = due
        self._outcome.lateness.append(monotonic() - due)
        link.ask()

    def _connect(self) -> Link:
        link = Link(begin(self._port, next(self._sources)), self._per_connection, self._epoll)
        self._links[link.number] = link
        return link

    def _turn(self) -> int:
        """Look at what has happened, and say how many exchanges are over by that."""
        return sum(self._proceed(self._links[number]) for number, _ in self._epoll.poll(0))

    def _proceed(self, link: Link) -> bool:
        """Go on with a link's exchange, and say whether it is over."""
        try:
            answer = link.hear()
        except Lost as lost:
            self._refused(link, str(lost))
            return True
        if answer is None:
            return False
        token = _TOKEN.search(answer)
        if token is not None:
            link.send(messages.framed(_SOLUTION % (token[1], self._nonces)))
            return False
        if _QUOTE in answer:
            self._served(link)
        else:
            self._refused(link, messages.kind(answer))
        return True

    def _served(self, link: Link) -> None:
        self._outcome.latencies.append(monotonic() - link.due)
        link.left -= 1
        if link.left:
            self._idle.append(link)
        else:
            self._drop(link)

    def _refused(self, link: Link, code: str) -> None:
        self._outcome.refused[code] += 1
        self._drop(link)

    def _drop(self, link: Link) -> None:
        del self._links[link.number]
        link.close()


def _greet(port: int) -> int:
    """
    Ask a server for a challenge, and have a close look at it.

    @return: the number of rounds that it asks for.
    @raise Unfit: if it cannot be loaded.
    """
    where = f"what listens on 127.0.0.1:{port}"
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            challenge = talk.ask(connection)
    except OSError as failed:
        raise Unfit(f"{where} cannot be talked to: {failed}") from None
    except ValueError:
        raise Unfit(f"{where} does not speak this protocol") from None
    if challenge.get("type") != "challenge":
        raise Unfit(f"{where} refuses: {challenge.get('message', challenge)}")
    rounds, effort = int(challenge["rounds"]), challenge["round_effort"]
    if effort != 1:
        raise Unfit(
            f"{where} asks {effort} hashes a round, and the load solves nothing: start the server "
            f"with WOW_POW__EFFORT={rounds} WOW_POW__CEILING={rounds}"
        )
    return rounds
