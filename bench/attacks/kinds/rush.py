"""A price that follows load looks at a period: be silent in most of it, and come at its end."""

from __future__ import annotations

from bench.attacks.attack import Attack
from bench.attacks.kinds.farm import CHEAP, LINKS, WHY_CHEAP, Farm, Stash
from bench.attacks.swarm import Swarm

_COLLECTING = 6.0
"""Seconds for which solutions are held back: a period of the price's and a half."""


def _run(swarm: Swarm) -> None:
    farm, stash = Farm(swarm), Stash()
    while not swarm.over:
        farm.work(_COLLECTING, stash.put)
        swarm.told["most in a rush"] = max(swarm.told["most in a rush"], len(stash))
        swarm.told["rushes"] += 1
        while len(stash) and not swarm.over:
            stash.hand_in(200)
            swarm.turn()


ATTACK = Attack(
    "rush",
    "collects solutions for six seconds and hands all of them in at once, again and again",
    _run,
    sources=LINKS,
    seconds=40.0,
    environ=CHEAP,
    why=WHY_CHEAP,
    pays=True,
)
