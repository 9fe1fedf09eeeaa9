"""How many cores there are to use."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = _QUOTA) -> int:
    """
    The cores that this process may run on; or, if it is less, as many as it may
    have the time of, where a container is given less than whole ones.

    @param quota: where Linux says what that is: microseconds in so many others.
    @return: 1 or more.
    """
    # Not on every system is there a choice.
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        most, period = quota.read_text().split()
        return min(count, ceil(int(most) / int(period)))
    except (OSError, ValueError):
        return count
