"""One solution, handed in on fifty connections at the same moment."""

from __future__ import annotations

from time import monotonic

from bench import messages
from bench.attacks.attack import Attack
from bench.attacks.puzzle import Puzzle
from bench.attacks.swarm import Link, Swarm

_CONNECTIONS = 50
_PATIENCE = 5.0
"""Seconds for each step of a race."""


class _Racing(Link):
    """
    @ivar up: whether it is connected.
    @ivar kind: of the last answer; empty at first, C{lost} without one.
    """

    up = False
    kind = ""
    frame = b""

    def connected(self) -> None:
        self.up = True

    def heard(self, kind: str, frame: bytes) -> None:
        self.kind, self.frame = kind, frame

    def lost(self) -> None:
        self.kind = self.kind or "lost"


def _run(swarm: Swarm) -> None:
    while not swarm.over:
        links = [_Racing(swarm, source) for source in [swarm.source()] * _CONNECTIONS]
        try:
            _race(swarm, links)
        finally:
            for link in links:
                link.drop()


def _race(swarm: Swarm, links: list[_Racing]) -> None:
    for link in links:
        link.connect()
    _wait(swarm, links)
    first = links[0]
    first.send(messages.REQUEST)
    _wait_for(swarm, links[:1])
    if first.kind != "challenge":
        swarm.told["races called off"] += 1
        return
    puzzle = Puzzle(messages.read(first.frame))
    if not swarm.solve(puzzle):
        return
    first.kind = ""
    runners = [link for link in links if link.open and link.up]
    for link in runners:
        link.send(puzzle.solution)
    _wait_for(swarm, runners)
    _judge(swarm, runners)


def _wait(swarm: Swarm, links: list[_Racing]) -> None:
    end = monotonic() + _PATIENCE
    while not all(link.up or link.kind for link in links) and monotonic() < end and not swarm.over:
        swarm.turn(0.05)


def _wait_for(swarm: Swarm, links: list[_Racing]) -> None:
    end = monotonic() + _PATIENCE
    while not all(link.kind for link in links) and monotonic() < end and not swarm.over:
        swarm.turn(0.05)


def _judge(swarm: Swarm, runners: list[_Racing]) -> None:
    quotes = sum(link.kind == "quote" for link in runners)
    swarm.told["tokens solved"] += 1
    swarm.told["solutions handed in"] += len(runners)
    swarm.told["most quotes for a token"] = max(swarm.told["most quotes for a token"], quotes)


ATTACK = Attack(
    "replay-race",
    "solves one challenge and hands it in on 50 connections at once, again and again",
    _run,
)
