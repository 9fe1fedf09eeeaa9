"""Random ids for tokens, from the kernel."""

from __future__ import annotations

import os

_BYTES = 16
_AT_ONCE = 64


class RandomIds:
    """
    Gives ids of 16 random bytes, drawn by the dozen: to ask the kernel for
    each costs more than all else that makes a token random.

    A process that forks must not share one, or both would give the same ids.
    """

    def __init__(self) -> None:
        self._drawn: list[bytes] = []

    def __call__(self) -> bytes:
        """An id that nobody has had before."""
        if not self._drawn:
            drawn = os.urandom(_BYTES * _AT_ONCE)
            self._drawn = [drawn[at : at + _BYTES] for at in range(0, len(drawn), _BYTES)]
        return self._drawn.pop()
