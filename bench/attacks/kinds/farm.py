"""Clients that pay: what mining and the attacks on the price are made of."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic

from bench import messages
from bench.attacks.puzzle import Puzzle
from bench.attacks.swarm import AGAIN, Link, Swarm

LINKS = 1000
"""Connections of a farm, and addresses: one is not to be held up by its limits."""

CHEAP: Mapping[str, str] = {"WOW_POW__EFFORT": "64"}
WHY_CHEAP = "one core's hashing can then buy more than the server can serve"

_RETRY = re.compile(rb'"retry_after":([0-9.e-]+)')


class Miner(Link):
    """One connection of a farm: it always has a challenge to be solved, or is waiting for one."""

    def __init__(self, swarm: Swarm, source: str, farm: Farm) -> None:
        super().__init__(swarm, source)
        self._farm = farm

    def connected(self) -> None:
        self.ask()

    def ask(self) -> None:
        """Ask for a challenge."""
        if self.open:
            self.send(messages.REQUEST)

    def heard(self, kind: str, frame: bytes) -> None:
        if kind == "challenge":
            self._farm.unsolved.append((self, Puzzle(messages.read(frame))))
        elif kind == "rate_limited":
            found = _RETRY.search(frame)
            self.swarm.later(float(found[1]) if found else 1.0, self.ask)

    def lost(self) -> None:
        self.swarm.later(AGAIN, self.connect)


class Farm:
    """
    Solves challenges with all of its core.

    @ivar unsolved: challenges, and the connections that they came by.
    """

    def __init__(self, swarm: Swarm, links: int = LINKS) -> None:
        self._swarm = swarm
        self.unsolved: deque[tuple[Miner, Puzzle]] = deque()
        for number in range(links):
            miner = Miner(swarm, swarm.source(), self)
            swarm.later(number / LINKS, miner.connect)

    def solve(self, hand_in: Callable[[Miner, Puzzle], None]) -> bool:
        """
        Solve the challenge that has waited longest, if there is one.

        @param hand_in: what to do with it.
        """
        if not self.unsolved:
            return False
        miner, puzzle = self.unsolved.popleft()
        if not self._swarm.solve(puzzle):
            return False
        hand_in(miner, puzzle)
        return True

    def work(self, seconds: float, hand_in: Callable[[Miner, Puzzle], None]) -> None:
        """Solve one challenge after the other for so long, or until all is over."""
        end = min(self._swarm.until, monotonic() + seconds)
        while monotonic() < end:
            self._swarm.turn(0.0 if self.unsolved else 0.05)
            self.solve(hand_in)


def pay(miner: Miner, puzzle: Puzzle) -> None:
    """Hand a solution in, and ask for the next challenge by the same packet."""
    if miner.open:
        miner.send(puzzle.solution + messages.REQUEST, 2)


class Stash:
    """Solutions that are kept for later."""

    def __init__(self) -> None:
        self._solutions: deque[tuple[Miner, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._solutions)

    def put(self, miner: Miner, puzzle: Puzzle) -> None:
        """Keep one, and ask for the next challenge."""
        self._solutions.append((miner, puzzle.solution))
        miner.ask()

    def hand_in(self, count: int) -> int:
        """
        Hand in the oldest.

        @return: how many.
        """
        handed = 0
        while self._solutions and handed < count:
            miner, solution = self._solutions.popleft()
            if miner.open:
                miner.send(solution)
                handed += 1
        return handed
