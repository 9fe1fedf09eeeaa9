"""
What systemd is told: that the server is ready, reloads, stops, and still turns.

As sd_notify(3) has it, by datagrams to the socket that C{$NOTIFY_SOCKET}
names. The libraries for it want a compiler, or nobody keeps them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service
from twisted.internet.task import LoopingCall

_PATIENCE = 1.0
"""Seconds that systemd may take to make room for what it is told."""


class Notices(Service):
    """
    Tells systemd that the server is ready when it is started, and that it
    stops when it is stopped: so it is the last to start, and the first to
    stop. In between it is told that the event loop turns, if it wants to know.
    Where there is no systemd, nobody is told anything.
    """

    def __init__(self, environ: Mapping[str, str], reactor: Any, log: FilteringBoundLogger) -> None:
        """
        @param environ: says where systemd listens, and how often it wants to
            hear: C{NOTIFY_SOCKET}, C{WATCHDOG_USEC}, C{WATCHDOG_PID}.
        """
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._reactor = reactor
        self._log = log
        self._period = _watchdog(environ) / 2
        self._alive = LoopingCall(self._tell, "WATCHDOG=1")
        self._alive.clock = reactor

    def startService(self) -> None:
        super().startService()
        # Not before signals are heeded.
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        self._tell("READY=1")
        if self._address and self._period:
            self._alive.start(self._period)

    def stopService(self) -> None:
        super().stopService()
        self._tell("STOPPING=1")
        if self._alive.running:
            self._alive.stop()

    def around(self, reload: Callable[[], object]) -> Callable[[], None]:
        """A function that reloads, and tells when that begins and when it is done."""

        def reloaded() -> None:
            self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                reload()
            finally:
                self._tell("READY=1")

        return reloaded

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # One that begins with @ has no place in the file system.
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(_PATIENCE)
                channel.connect(address)
                channel.sendall("\n".join(lines).encode())
        except OSError as failed:
            self._log.warning("notify_failed", told=lines[0], reason=str(failed))


def _watchdog(environ: Mapping[str, str]) -> float:
    """Seconds within which systemd wants to hear that this process is alive; 0 for never."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    period = environ.get("WATCHDOG_USEC", "")
    return int(period) / 1_000_000 if period.isascii() and period.isdigit() else 0
