"""Solutions that are none: each passes one check more than the one before."""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from itertools import cycle
from random import Random
from time import monotonic

from bench import messages
from bench.attacks.attack import Attack
from bench.attacks.puzzle import Puzzle
from bench.attacks.swarm import AGAIN, Link, Swarm

_CONNECTIONS = 200
_FRESH = 40.0
"""Seconds for which a token is used. It is not spent, so it can be, again and again."""

_NONCES = range(1000, 1008)


class _Stock:
    """Real challenges, and what can be made of them."""

    def __init__(self, swarm: Swarm, random: Random) -> None:
        self._swarm = swarm
        self._random = random
        self._tokens: dict[str, tuple[float, str]] = {}
        self._latest: list[tuple[str, str]] = []
        self._solved: Puzzle | None = None

    def add(self, source: str, challenge: messages.Message) -> None:
        """Keep a challenge. The first is solved, for its nonces."""
        self._tokens[source] = (monotonic(), challenge["challenge"])
        self._latest = [*self._latest[-9:], (source, challenge["challenge"])]
        if self._solved is None:
            self._solved = Puzzle(challenge)
            self._swarm.solve(self._solved)

    def token(self, source: str) -> str | None:
        """One of the source's own that is still good."""
        when, token = self._tokens.get(source, (0.0, ""))
        return token if monotonic() - when < _FRESH and when else None

    def foreign(self, source: str) -> str | None:
        """One of another's."""
        others = [token for owner, token in self._latest if owner != source]
        return self._random.choice(others) if others else None

    # The kinds: each a framed solution, or None where a token is wanting.

    def rubbish(self, source: str) -> bytes | None:
        """A token of random bytes."""
        return _solution(urlsafe_b64encode(os.urandom(73)).rstrip(b"=").decode())

    def unsigned(self, source: str) -> bytes | None:
        """A token with all in its place, down to the key id, but for the tag."""
        token = self.token(source)
        return None if token is None else _solution(_altered(token, _forged))

    def unsolved(self, source: str) -> bytes | None:
        """A real token with any nonces."""
        token = self.token(source)
        return None if token is None else _solution(token)

    def mutated(self, source: str) -> bytes | None:
        """A real token with one bit turned over."""
        token = self.token(source)
        return None if token is None else _solution(_altered(token, self._turned))

    def foreign_token(self, source: str) -> bytes | None:
        """A token that another address was given."""
        token = self.foreign(source)
        return None if token is None else _solution(token)

    def foreign_nonces(self, source: str) -> bytes | None:
        """A real token with the nonces of another."""
        token = self.token(source)
        if token is None or self._solved is None or token == self._solved.token:
            return None
        return messages.solution(token, self._solved.nonces)

    def _turned(self, sealed: bytes) -> bytes:
        place, bit = self._random.randrange(len(sealed)), 1 << self._random.randrange(8)
        return sealed[:place] + bytes((sealed[place] ^ bit,)) + sealed[place + 1 :]


def _solution(token: str) -> bytes:
    return messages.solution(token, _NONCES)


def _altered(token: str, alter: Callable[[bytes], bytes]) -> str:
    sealed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    return urlsafe_b64encode(alter(sealed)).rstrip(b"=").decode()


def _forged(sealed: bytes) -> bytes:
    return sealed[:-32] + os.urandom(32)


_Make = Callable[[str], bytes | None]


class _Bogus(Link):
    def __init__(
        self, swarm: Swarm, source: str, stock: _Stock, kinds: list[tuple[str, _Make]]
    ) -> None:
        super().__init__(swarm, source)
        self._stock = stock
        self._kinds = cycle(kinds)
        self._name = ""

    def connected(self) -> None:
        name, make = next(self._kinds)
        made = make(self.source)
        self._name = "" if made is None else name
        self.send(messages.REQUEST if made is None else made)

    def heard(self, kind: str, frame: bytes) -> None:
        if self._name:
            self.swarm.told[f"{self._name}: {kind}"] += 1
        elif kind == "challenge":
            self._stock.add(self.source, messages.read(frame))
        self.drop()
        self.connect()

    def lost(self) -> None:
        self.swarm.later(AGAIN, self.connect)


def _run(swarm: Swarm) -> None:
    random = Random(1)
    stock = _Stock(swarm, random)
    kinds: list[tuple[str, _Make]] = [
        ("random", stock.rubbish),
        ("unsigned", stock.unsigned),
        ("without work", stock.unsolved),
        ("mutated", stock.mutated),
        ("another's token", stock.foreign_token),
        ("another's nonces", stock.foreign_nonces),
    ]
    for number in range(_CONNECTIONS):
        # Each begins with another kind, so that all are under way at any time.
        first = number % len(kinds)
        _Bogus(swarm, swarm.source(), stock, kinds[first:] + kinds[:first]).connect()
    while not swarm.over:
        swarm.turn(1.0)


ATTACK = Attack(
    "bogus-solutions",
    "hands in random, unsigned, unsolved, mutated and spliced tokens in equal parts",
    _run,
)
