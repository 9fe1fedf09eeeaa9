"""Memory that a crowd took is given back when it is gone."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import cast

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

_PERIOD = 10.0
"""Seconds. It takes less than a millisecond, and finds little to do as a rule."""


def find_trim() -> Callable[[int], object]:
    """The C library's C{malloc_trim}; where it has none, something that does nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: None)
    return cast(Callable[[int], object], trim)


class Heap(Service):
    """
    Trims the C library's heap now and then. By itself it gives back what is
    free at its end alone, which a single buffer that is still used prevents.
    """

    def __init__(self, trim: Callable[[int], object], clock: IReactorTime) -> None:
        """
        @param trim: gives back all that is free but for so many bytes at the end.
        """
        self._loop = LoopingCall(trim, 0)
        self._loop.clock = clock

    def startService(self) -> None:
        super().startService()
        self._loop.start(_PERIOD, now=False)

    def stopService(self) -> None:
        super().stopService()
        self._loop.stop()
