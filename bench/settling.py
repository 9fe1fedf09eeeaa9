"""Readings that take a while to come to rest."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep

_STEPS = 10
_MOVED = 0.002
"""The part of a reading by which it may differ without having moved."""

_PATIENCE = 8
"""How many times as long as it must have rested it may take to do so."""


def settled(read: Callable[[], int], seconds: float) -> int:
    """
    Read something until it has not moved for so many seconds.

    @return: the last reading, at rest or after eight times as long.
    """
    end = monotonic() + _PATIENCE * seconds
    readings = [read()]
    while monotonic() < end:
        sleep(seconds / _STEPS)
        readings = [*readings[-_STEPS:], read()]
        if len(readings) > _STEPS and max(readings) - min(readings) <= _MOVED * max(readings):
            break
    return readings[-1]
