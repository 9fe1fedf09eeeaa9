"""
How a client behaves, and what that does to its price.

A client that takes challenges without redeeming them, or fails checks, comes
under suspicion: one point for each, and two points less for each solution
redeemed. Time takes a point a second. Each C{STEP} points double its price,
which is halved again only when it is half a step below. Without this
hysteresis a client at the edge would flip with every visit, as it does with
libmcaptcha's levels.
"""

from __future__ import annotations

from wow.clients import Client
from wow.pow.pricing import LEVELS

STEP = 32.0
"""
Points to a doubling of the price. So many clients behind one address can
have a challenge out at the same time before any of them pays more.
"""

_LEAK = 1.0
"""Points that a second takes."""

_MOST = STEP * (LEVELS + 1)


def suspect(client: Client, now: float) -> int:
    """
    A client took a challenge, or failed a check.

    @return: how many times its price is doubled from now on.
    """
    _add(client, 1.0, now)
    return client.level


def trust(client: Client, now: float) -> None:
    """A client redeemed a challenge: it pays for the point that this cost, and one more."""
    _add(client, -2.0, now)


def _add(client: Client, points: float, now: float) -> None:
    suspicion, elapsed = client.suspicion, now - client.suspected
    if suspicion and elapsed > 0:
        suspicion = max(0.0, suspicion - _LEAK * elapsed)
    suspicion += points
    if suspicion < 0:
        suspicion = 0.0
    elif suspicion > _MOST:
        suspicion = _MOST
    client.suspicion = suspicion
    client.suspected = now
    if client.level or suspicion >= STEP:
        client.level = _level(client.level, suspicion)


def _level(level: int, suspicion: float) -> int:
    while level < LEVELS and suspicion >= STEP * (level + 1):
        level += 1
    while level and suspicion <= STEP * (level - 0.5):
        level -= 1
    return level
