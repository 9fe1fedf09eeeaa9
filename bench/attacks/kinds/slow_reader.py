"""Answers that nobody takes have to be kept somewhere."""

from __future__ import annotations

from bench import messages
from bench.attacks.attack import Attack
from bench.attacks.swarm import AGAIN, Link, Swarm

_CONNECTIONS = 1000
_PIPELINED = 1000
_REQUESTS = messages.REQUEST * _PIPELINED


class _Deaf(Link):
    reads = False
    receive_buffer = 2048

    def connected(self) -> None:
        self._ask()

    def drained(self) -> None:
        self.swarm.later(0.1, self._ask)

    def _ask(self) -> None:
        if self.open and self.send(_REQUESTS, _PIPELINED):
            self.swarm.later(0.1, self._ask)

    def lost(self) -> None:
        self.swarm.later(AGAIN, self.connect)


def _run(swarm: Swarm) -> None:
    for number in range(_CONNECTIONS):
        swarm.later(number / 1000, _Deaf(swarm, swarm.source()).connect)
    while not swarm.over:
        swarm.turn(1.0)


ATTACK = Attack(
    "slow-reader",
    "1000 connections, each with a thousand requests at once, and not one answer read",
    _run,
)
