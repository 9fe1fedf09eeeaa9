"""A valid frame that takes forever to arrive, on thousands of connections."""

from __future__ import annotations

from random import Random

from bench.attacks.attack import Attack
from bench.attacks.swarm import Link, Swarm

_CONNECTIONS = 5000
_PER_SECOND = 2000
"""Connections that are made in a second."""

_PAUSE = 3.0
"""Seconds between two bytes, on average."""

# JSON may end in white space, so every byte of it could be the last.
_BODY = b'{"type":"request"}'.ljust(4096)
_FRAME = len(_BODY).to_bytes(4, "big") + _BODY


class _Dripping(Link):
    def __init__(self, swarm: Swarm, source: str, random: Random) -> None:
        super().__init__(swarm, source)
        self._random = random
        self._position = 0

    def connected(self) -> None:
        self._position = 0
        self._drip()

    def _drip(self) -> None:
        if self.open:
            self.send(_FRAME[self._position : self._position + 1], 0)
            self._position += 1
            self.swarm.later(_PAUSE * self._random.uniform(0.5, 1.5), self._drip)

    def lost(self) -> None:
        # At another time than a drip that is due, so that there are not two.
        self.swarm.later(2 * _PAUSE, self.connect)


def _run(swarm: Swarm) -> None:
    random = Random(1)
    for number in range(_CONNECTIONS):
        link = _Dripping(swarm, swarm.source(), random)
        swarm.later(number / _PER_SECOND, link.connect)
    while not swarm.over:
        swarm.turn(1.0)
        swarm.told["held at the peak"] = max(swarm.told["held at the peak"], swarm.held)


ATTACK = Attack(
    "slowloris",
    "5000 connections, on each a byte of a valid frame every few seconds",
    _run,
    # Longer than a connection may be idle by default.
    seconds=45.0,
)
