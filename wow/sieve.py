"""
Clients who are turned away all the time, kept from connecting for a while.

To turn a connection away costs this process a few system calls, so whoever
connects fast enough keeps it from all else, and the kernel's queue full, where
others then find no room. What the kernel drops costs nothing here; see
L{wow.packet_filter}. It is an economy, not a safeguard: where the kernel does
not do it, all is as it would be without.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from heapq import nlargest

from attrs import frozen
from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from wow.packet_filter import MOST, assemble, attach, detach

_PERIOD = 0.25
"""Seconds from one look at who was turned away to the next."""

_COUNTED = 10_000
"""Clients counted between two looks. There is no time to turn away many more."""

_REMEMBERED = 1000
"""Clients remembered whose time is over."""

_SHORTEST, _LONGEST = 10.0, 300.0
"""
Seconds that a client is held back for: as long again at the most, by chance,
or else all would come back at the same moment.
"""


@frozen
class _Sentence:
    # The seconds are those before chance added some.
    until: float
    seconds: float


class Sieve(Service):
    """
    Counts who is turned away, and has the kernel drop what those send who are
    turned away too often. It looks only while there is something to see.
    """

    def __init__(
        self,
        prefix_bits: tuple[int, int],
        rate: float,
        clock: IReactorTime,
        chance: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param prefix_bits: how many bits of an IPv4 and of an IPv6 address make a client.
        @param rate: times a second that a client may be turned away; 0 to hold nobody.
        @param chance: gives a random number, 0 to 1.
        """
        self._prefix_bits = prefix_bits
        self._rate = rate
        self._clock = clock
        self._chance = chance
        self._log = log
        self._listening: list[socket.socket] = []
        self._works = rate > 0
        self._counts: dict[bytes, int] = {}
        self._held: dict[bytes, _Sentence] = {}
        self._past: dict[bytes, _Sentence] = {}
        self._next: IDelayedCall | None = None
        self._looked = 0.0

    @property
    def held(self) -> int:
        """How many clients are held back now."""
        return len(self._held)

    def add(self, listening: socket.socket) -> None:
        """Keep them from one more listening socket, unless it is a Unix socket."""
        if listening.family in (socket.AF_INET, socket.AF_INET6):
            self._listening.append(listening)
            if self._held:
                self._apply()

    def turned_away(self, prefix: bytes) -> None:
        """
        A connection was turned away.

        @param prefix: of its client, as tokens are bound.
        """
        counts = self._counts
        if prefix in counts:
            counts[prefix] += 1
        elif self._works and len(counts) < _COUNTED:
            counts[prefix] = 1
            if self._next is None:
                self._wait()

    def startService(self) -> None:
        super().startService()
        self._wait()

    def stopService(self) -> None:
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self.pardon()

    def pardon(self) -> None:
        """Let everybody out, and forget what they did."""
        held = self._held
        self._counts, self._held, self._past = {}, {}, {}
        if held:
            self._apply()
            self._tell(len(held))

    def _wait(self) -> None:
        if self.running and self._works:
            self._looked = self._clock.seconds()
            self._next = self._clock.callLater(_PERIOD, self._look)

    def _look(self) -> None:
        self._next = None
        try:
            self._sift(self._clock.seconds())
        except Exception:
            self._log.error("sieve_failed", exc_info=Failure())
        if self._counts or self._held:
            self._wait()

    def _sift(self, now: float) -> None:
        before = self.held
        ended = [prefix for prefix, held in self._held.items() if held.until <= now]
        often = self._often(now)
        for prefix in ended:
            self._let_out(prefix)
        for prefix in often[: MOST - self.held]:
            self._hold(prefix, now)
        if ended or self.held > before:
            self._apply()
        self._tell(before)

    def _often(self, now: float) -> list[bytes]:
        # A busy loop looks late, and has then counted for longer. Those who
        # are held still come for a moment, out of the kernel's queue.
        counts, self._counts = self._counts, {}
        most = self._rate * max(_PERIOD, now - self._looked)
        often = [p for p, count in counts.items() if count > most and p not in self._held]
        return nlargest(MOST, often, key=counts.__getitem__)

    def _let_out(self, prefix: bytes) -> None:
        self._past[prefix] = self._held.pop(prefix)
        if len(self._past) > _REMEMBERED:
            del self._past[next(iter(self._past))]

    def _hold(self, prefix: bytes, now: float) -> None:
        past = self._past.pop(prefix, None)
        seconds = _SHORTEST if past is None else min(2 * past.seconds, _LONGEST)
        self._held[prefix] = _Sentence(now + seconds * (1 + self._chance()), seconds)

    def _apply(self) -> None:
        # Connections keep the program that their listening socket had when
        # they were accepted. Who was admitted before is so not cut off.
        program = assemble(self._held, self._prefix_bits)
        self._listening = [port for port in self._listening if port.fileno() >= 0]
        try:
            for port in self._listening:
                attach(port, program) if self._held else detach(port)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._works = False
        self._held.clear()
        self._counts.clear()
        for port in self._listening:
            with suppress(OSError):
                detach(port)
        self._log.warning(
            "sieve_off",
            reason=str(error),
            meaning="who is turned away too often goes on costing the server time",
            remedy="grant CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN), or set "
            "limits.sieve_rate to 0",
        )

    def _tell(self, before: int) -> None:
        if bool(before) != bool(self.held):
            self._log.info("sieve", clients=self.held)
