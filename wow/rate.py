"""
How fast: a token bucket that takes one number to remember.

This is the generic cell rate algorithm (ITU-T I.371, there for ATM cells).
What is remembered is the time at which all that was taken will be paid off;
a time that has passed says nothing any more, and can be forgotten.
"""

from __future__ import annotations

# What adding up times leaves of a rounding error, in seconds.
_ROUNDING = 1e-6


class Rate:
    """So many at once, and so many a second from then on."""

    def __init__(self, rate: float, burst: float, debt: float = 1) -> None:
        """
        @param rate: how many a second.
        @param burst: how many at once, after a while of none.
        @param debt: how many bursts are held against one who takes more.
        """
        self._interval = 1 / rate
        self._patience = (burst - 1) / rate + _ROUNDING
        self._longest = (debt * burst - 1) / rate + _ROUNDING

    def wait(self, due: float, now: float) -> float:
        """
        How long until one more may be taken.

        @param due: when all that was taken will be paid off.
        @return: seconds; none are left when it is 0 or less.
        """
        return due - now - self._patience

    def take(self, due: float, now: float) -> float:
        """
        Take one, whether it may be taken or not.

        @return: when all that was taken will be paid off.
        """
        # Comparisons, since a call of min() would cost as much as all of this.
        due = due if due > now else now  # noqa: FURB136
        latest = now + self._longest
        return (due if due < latest else latest) + self._interval  # noqa: FURB136
