"""Drive the price up once, then hold it there with what was solved while it was low."""

from __future__ import annotations

from time import monotonic

from bench.attacks.attack import Attack
from bench.attacks.kinds.farm import CHEAP, LINKS, WHY_CHEAP, Farm, Stash, pay
from bench.attacks.swarm import Swarm

_FULL_PER_SECOND = 20.0
"""Challenges solved at the full price while it is being held."""

_STEP = 0.05
"""Seconds."""


def _run(swarm: Swarm) -> None:
    # All must be over before the first of the solutions expires.
    third = (swarm.until - monotonic()) / 3
    farm, stash = Farm(swarm), Stash()
    farm.work(third, stash.put)
    swarm.told["solved at the low price"] = len(stash)
    farm.work(third, pay)
    _hold(swarm, farm, stash)


def _hold(swarm: Swarm, farm: Farm, stash: Stash) -> None:
    """Hand the solutions in, evenly over the time that is left."""
    began, stock = monotonic(), len(stash)
    seconds = max(_STEP, swarm.until - began)
    handed = full = 0
    while not swarm.over:
        swarm.rest(_STEP)
        elapsed = monotonic() - began
        due = int(stock * elapsed / seconds) - handed
        swarm.told["handed in to hold it"] += stash.hand_in(due)
        handed += due
        if full < elapsed * _FULL_PER_SECOND and farm.solve(pay):
            full += 1


ATTACK = Attack(
    "cheap-maintenance",
    "solves at the low price and keeps it, drives the price up, then hands in what it kept",
    _run,
    sources=LINKS,
    seconds=45.0,
    environ=CHEAP,
    why=WHY_CHEAP,
    pays=True,
)
