"""
File descriptors: how many there are, how many connections they make room for,
and what is said when there are none left.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

_KERNEL_LIMIT = Path("/proc/sys/fs/nr_open")

_MOST_ELSEWHERE = 10_240
"""What macOS grants a process that has no limit, and others do too."""

_ACCEPTING = frozenset(
    f"twisted.internet.{name}"
    for name in ("tcp.Port", "unix.Port", "tcp._FileDescriptorReservation")
)


def raise_limit(system: Any = resource, kernel_limit: Path = _KERNEL_LIMIT) -> int:
    """
    Let this process open as many files as it may. What cannot be changed stays as it is.

    @param system: the L{resource} module, or what has its names.
    @param kernel_limit: where Linux says what "without limit" comes to.
    @return: how many files it may have open from now on.
    """
    soft, hard = system.getrlimit(system.RLIMIT_NOFILE)
    boundless = system.RLIM_INFINITY
    most = _read_limit(kernel_limit) if hard == boundless else hard
    if soft != boundless and soft < most:
        with contextlib.suppress(OSError, ValueError):
            system.setrlimit(system.RLIMIT_NOFILE, (most, hard))
        soft, _ = system.getrlimit(system.RLIMIT_NOFILE)
    return int(most if soft == boundless else soft)


def _read_limit(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return _MOST_ELSEWHERE


def room(limit: int, wanted: int, reserve: int) -> int:
    """
    How many connections to have open at once.

    @param limit: files that may be open.
    @param wanted: connections that an operator wants.
    @param reserve: files that are needed for other things.
    @return: 1 or more.
    """
    return max(1, min(wanted, limit - reserve))


@implementer(ILogObserver)
class Sparing:
    """
    Passes events on, but few of those about connections that could not be
    accepted. Without a descriptor left Twisted has three of them for each
    stranger; without even its spare one it has no rest, and tens of thousands
    a second, until a connection is closed.
    """

    def __init__(
        self, observer: ILogObserver, seconds: Callable[[], float], pause: float = 10.0
    ) -> None:
        """
        @param observer: whom to pass events on to.
        @param seconds: a clock that is never set.
        @param pause: seconds from one such event passed on to the next.
        """
        self._observer = observer
        self._seconds = seconds
        self._pause = pause
        self._rests_until = seconds()
        self._left_out = 0

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace") not in _ACCEPTING:
            self._observer(event)
        elif (now := self._seconds()) < self._rests_until:
            self._left_out += 1
        else:
            self._rests_until = now + self._pause
            self._observer(self._explained(event))

    def _explained(self, event: LogEvent) -> LogEvent:
        left_out, self._left_out = self._left_out, 0
        return {
            **event,
            # Twisted's own level, info, would hide that somebody was not served.
            "log_level": max(event["log_level"], LogLevel.warn),
            "log_format": f"{event['log_format']} ({{left_out}} events like it left out before)",
            "left_out": left_out,
        }
