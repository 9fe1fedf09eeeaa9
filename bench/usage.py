"""What a server uses: CPU and memory of a process and of those that it started."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def cpu(pid: int) -> float:
    """
    Seconds of CPU, user and system, that a process and its children used so far.

    All threads count, those that have ended too. Of a child that has ended
    nothing is known any more, and its part is gone.

    @raise OSError: if there is no such process.
    """
    return _summed(_cpu, pid)


def _cpu(pid: int) -> float:
    # The clock that clock_getcpuclockid(3) gives: the scheduler's own account
    # of a process. /proc/PID/schedstat tells of one thread, /proc/PID/stat in
    # hundredths of a second.
    return time.clock_gettime(~pid << 3 | 2)


def memory(pid: int) -> int:
    """
    Bytes that a process and its children have resident and no file stands behind.

    The files of the spent store are mapped, but the kernel can drop their
    pages when it likes.

    @raise OSError: if there is no such process.
    """
    return int(_summed(_anonymous, pid))


def _anonymous(pid: int) -> int:
    _, resident, of_files, *_ = map(int, (_PROC / str(pid) / "statm").read_text().split())
    return (resident - of_files) * os.sysconf("SC_PAGE_SIZE")


def _summed(read: Callable[[int], float], pid: int) -> float:
    parent, *others = family(pid)
    total = read(parent)
    for each in others:
        # One may have ended in the meantime.
        with suppress(OSError):
            total += read(each)
    return total


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children = [child for child, parent in _parents() if parent == pid]
    return [pid, *(each for child in children for each in family(child))]


def _parents() -> Iterator[tuple[int, int]]:
    """Every process, and its parent."""
    for place in _PROC.glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            after_name = place.read_text().rpartition(")")[2]
        except OSError:
            continue
        yield int(place.parent.name), int(after_name.split()[1])
