"""Connections alone cost the server something, and whoever makes them next to nothing."""

from __future__ import annotations

import socket
from collections import deque

from bench import messages
from bench.attacks.attack import Attack
from bench.attacks.swarm import Swarm
from bench.sockets import begin

_ABANDONED = 2000
"""Connections that are left alone before they are reset."""

_AT_ONCE = 64


def _run(swarm: Swarm) -> None:
    abandoned: deque[socket.socket] = deque()
    while not swarm.over:
        for number in range(_AT_ONCE):
            made = _connect(swarm)
            if made is not None and number % 2:
                abandoned.append(made)
            elif made is not None:
                made.close()
        while len(abandoned) > _ABANDONED:
            _leave(swarm, abandoned.popleft())


def _connect(swarm: Swarm) -> socket.socket | None:
    swarm.sent["connections"] += 1
    try:
        return begin(swarm.port, swarm.source(), reset=True)
    except OSError:
        swarm.sent["failed"] += 1
        return None


def _leave(swarm: Swarm, connection: socket.socket) -> None:
    try:
        connection.getpeername()
    except OSError:
        # The queue of the listening socket was full.
        swarm.told["left alone, never established"] += 1
    else:
        _hear(swarm, connection)
    connection.close()


def _hear(swarm: Swarm, connection: socket.socket) -> None:
    swarm.sent["established"] += 1
    try:
        said = connection.recv(4096)
        swarm.got[messages.kind(said) if said else "closed"] += 1
    except BlockingIOError:
        swarm.told["left alone, heard nothing"] += 1
    except OSError:
        swarm.got["reset"] += 1


ATTACK = Attack(
    "connect-flood",
    "connects as fast as it can; half of the connections are reset at once, half left alone",
    _run,
    # Longer than the server needs to notice who it is.
    seconds=45.0,
)
