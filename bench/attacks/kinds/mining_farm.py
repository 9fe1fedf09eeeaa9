"""The attacker that pays: all that it can get is what its hashes buy."""

from __future__ import annotations

from math import inf

from bench.attacks.attack import Attack
from bench.attacks.kinds.farm import CHEAP, LINKS, WHY_CHEAP, Farm, pay
from bench.attacks.swarm import Swarm


def _run(swarm: Swarm) -> None:
    Farm(swarm).work(inf, pay)


ATTACK = Attack(
    "mining-farm",
    "pays honestly for as many exchanges as its core can solve",
    _run,
    sources=LINKS,
    seconds=30.0,
    environ=CHEAP,
    why=WHY_CHEAP,
    pays=True,
)
