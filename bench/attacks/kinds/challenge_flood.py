"""Every challenge is a signature: ask for all there are, and solve none."""

from __future__ import annotations

from bench import messages
from bench.attacks.attack import Attack
from bench.attacks.swarm import AGAIN, Link, Swarm

_CONNECTIONS = 400
_PIPELINED = 50
_BATCHES = 10
"""After so many the connection is made anew."""

_REQUESTS = messages.REQUEST * _PIPELINED


class Asking(Link):
    """Asks, and asks again when all is answered."""

    _due = 0
    _left = 0

    def connected(self) -> None:
        self._left = _BATCHES
        self._ask()

    def _ask(self) -> None:
        self._left -= 1
        self._due = _PIPELINED
        self.send(_REQUESTS, _PIPELINED)

    def heard(self, kind: str, frame: bytes) -> None:
        self._due -= 1
        if self._due <= 0:
            if self._left:
                self._ask()
            else:
                self.drop()
                self.connect()

    def lost(self) -> None:
        self.swarm.later(AGAIN, self.connect)


def _run(swarm: Swarm) -> None:
    for _ in range(_CONNECTIONS):
        Asking(swarm, swarm.source()).connect()
    while not swarm.over:
        swarm.turn(1.0)


ATTACK = Attack(
    "challenge-flood",
    "asks for challenges as fast as it can, fifty at a time, and redeems none",
    _run,
)
