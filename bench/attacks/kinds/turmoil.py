"""Load that comes and goes with the period of the price, to have it swing."""

from __future__ import annotations

from bench.attacks.attack import Attack
from bench.attacks.kinds.farm import CHEAP, LINKS, WHY_CHEAP, Farm, pay
from bench.attacks.swarm import Swarm

_LOAD = 4.0
_PAUSE = 4.0


def _run(swarm: Swarm) -> None:
    farm = Farm(swarm)
    while not swarm.over:
        farm.work(_LOAD, pay)
        swarm.rest(_PAUSE)


ATTACK = Attack(
    "turmoil",
    "pays at full load for four seconds, is silent for four, again and again",
    _run,
    sources=LINKS,
    seconds=40.0,
    environ=CHEAP,
    why=WHY_CHEAP,
    pays=True,
)
