"""Take the server's time without paying, so that the price rises for those who do."""

from __future__ import annotations

from time import monotonic

from bench.attacks.attack import Attack
from bench.attacks.kinds.bad_frames import Babbling
from bench.attacks.kinds.challenge_flood import Asking
from bench.attacks.kinds.farm import CHEAP, WHY_CHEAP, Farm, pay
from bench.attacks.swarm import Swarm

_NOISY = 100
"""Connections of each kind of noise."""

_PAYING = 20
_PAID_PER_SECOND = 20.0


def _run(swarm: Swarm) -> None:
    farm = Farm(swarm, links=_PAYING)
    for number in range(_NOISY):
        Babbling(swarm, swarm.source(), number).connect()
        Asking(swarm, swarm.source()).connect()
    next_paid = monotonic()
    while not swarm.over:
        swarm.turn(1 / _PAID_PER_SECOND)
        if monotonic() >= next_paid and farm.solve(pay):
            next_paid = monotonic() + 1 / _PAID_PER_SECOND


ATTACK = Attack(
    "choking",
    "bad frames and requests for challenges as fast as it can, and a trickle that pays",
    _run,
    sources=2 * _NOISY + _PAYING,
    seconds=30.0,
    environ=CHEAP,
    why=WHY_CHEAP,
    pays=True,
)
