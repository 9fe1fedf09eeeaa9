"""As many connections as there can be, without a word."""

from __future__ import annotations

import resource

from bench.attacks.attack import Attack
from bench.attacks.swarm import Link, Swarm

_MOST = 20_000
_PER_SECOND = 5000
"""Connections that are made in a second, at first."""

_PAUSE = 2.0
"""Seconds until one that was closed is made again."""

_OTHER_FILES = 64


class _Silent(Link):
    def lost(self) -> None:
        self.swarm.later(_PAUSE, self.connect)


def _run(swarm: Swarm) -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(min(_MOST, files - _OTHER_FILES)):
        link = _Silent(swarm, swarm.source())
        swarm.later(number / _PER_SECOND, link.connect)
    while not swarm.over:
        swarm.turn(0.2)
        swarm.told["held at the peak"] = max(swarm.told["held at the peak"], swarm.held)
    swarm.told["held at the end"] = swarm.held


ATTACK = Attack(
    "silent-sockets",
    "opens 20,000 connections, says nothing, and makes anew what was closed",
    _run,
    # Longer than a connection may be idle by default.
    seconds=45.0,
)
