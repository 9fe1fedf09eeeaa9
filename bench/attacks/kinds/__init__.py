"""The attacks, one idea a module; C{ALL} has them in the order in which they are told of."""

from __future__ import annotations

from bench.attacks.attack import Attack
from bench.attacks.kinds import (
    bad_frames,
    bogus_solutions,
    challenge_flood,
    cheap_maintenance,
    choking,
    connect_flood,
    mining_farm,
    replay_race,
    rush,
    silent_sockets,
    slow_reader,
    slowloris,
    turmoil,
)

ALL: dict[str, Attack] = {
    module.ATTACK.name: module.ATTACK
    for module in (
        connect_flood,
        slowloris,
        silent_sockets,
        slow_reader,
        challenge_flood,
        bogus_solutions,
        replay_race,
        bad_frames,
        mining_farm,
        rush,
        turmoil,
        choking,
        cheap_maintenance,
    )
}
