"""Who is turned away, told now and then: an operator may want to deny them."""

from __future__ import annotations

from collections import Counter

from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from wow.networks import show

_PERIOD = 10.0
"""Seconds from one line to the next."""

_COUNTED = 10_000
"""Clients counted between two lines."""

_TOLD = 5
"""Clients named in a line."""


class Offenders(Service):
    """Counts who is turned away, and logs a line each period in which anybody was."""

    def __init__(
        self,
        prefix_bits: tuple[int, int],
        clock: IReactorTime,
        log: FilteringBoundLogger,
        event: str = "turned_away",
    ) -> None:
        """
        @param prefix_bits: how many bits of an IPv4 and of an IPv6 address make a client.
        @param event: what the line is called.
        """
        self._event = event
        self._prefix_bits = prefix_bits
        self._log = log
        self._counts: Counter[bytes] = Counter()
        self._loop = LoopingCall(self._tell)
        self._loop.clock = clock

    def turned_away(self, prefix: bytes) -> None:
        """
        A connection was turned away.

        @param prefix: of its client, as tokens are bound.
        """
        if prefix in self._counts or len(self._counts) < _COUNTED:
            self._counts[prefix] += 1

    def startService(self) -> None:
        super().startService()
        self._loop.start(_PERIOD, now=False)

    def stopService(self) -> None:
        super().stopService()
        self._loop.stop()

    def _tell(self) -> None:
        if not self._counts:
            return
        counts, self._counts = self._counts, Counter()
        self._log.info(
            self._event,
            connections=counts.total(),
            clients=len(counts),
            most=" ".join(
                f"{show(prefix, self._prefix_bits)} x{count}"
                for prefix, count in counts.most_common(_TOLD)
            ),
        )
