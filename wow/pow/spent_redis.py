"""
The spent store of many machines: a Redis or Valkey server that they share.

Expiries are judged by the server's clock, so those of the machines may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil

from structlog.typing import FilteringBoundLogger
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from wow.errors import Expired, Unavailable
from wow.pow.spent import ISharedSpentStore, Token, Unreachable
from wow.pow.spent_scripts import EXPIRED, FULL
from wow.pow.spent_shared import RETRY_AFTER, SharedSet
from wow.redis.errors import CROWDED
from wow.redis.interfaces import IConnection
from wow.spread import Spread

_BATCH = 500
"""
Tokens forgotten in one step: about a millisecond of the server, which does
nothing else meanwhile.
"""

_MOST_IN_FLIGHT = 1000
"""Redemptions that wait for an answer at once on one connection; more are refused."""


@implementer(ISharedSpentStore)
class RedisSpentStore:
    """
    A store that many machines share.

    Where the answer to a redemption is lost, its token may be spent. Its
    client is told C{unavailable}, and maybe C{replayed} the next time.

    @ivar trouble: see L{ISharedSpentStore}.
    @ivar reachable: see L{ISharedSpentStore}.
    """

    reachable = False
    trouble: str | None = "not connected: not yet"

    def __init__(
        self,
        shared: SharedSet,
        skew_ms: int,
        max_entries: int,
        now_ms: Callable[[], int],
        clock: IReactorTime,
        duration: Spread,
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param shared: the tokens on the server.
        @param skew_ms: how far the clocks of the machines, the server's among
            them, may differ.
        @param max_entries: how many tokens are remembered at most.
        @param now_ms: the wall clock.
        @param duration: of a redemption, in seconds.
        """
        self._shared = shared
        self._skew_ms = skew_ms
        self._max_entries = max_entries
        self._now_ms = now_ms
        self._clock = clock
        self._duration = duration
        self._log = log
        self._entries = 0
        self._full = False
        self._ahead_ms = 0
        self._well: bool | None = None
        self._closed = False

    @property
    def mark(self) -> int:
        """See L{ISharedSpentStore}."""
        return self._shared.mark

    def open(self) -> None:
        self._shared.open(self._report)

    def close(self) -> Deferred[None]:
        self._closed = True
        return self._shared.close()

    def count(self) -> int:
        return self._entries

    def status(self) -> Mapping[str, object]:
        return {**self._shared.status(), "clock_ahead": self._ahead_ms / 1000}

    # Spending

    def spend(self, expiry_ms: int, random_id: bytes) -> Deferred[bool]:
        shared = self._shared
        connection = None if shared.breaker.failing else shared.pick()
        if connection is None:
            raise Unreachable(retry_after=RETRY_AFTER)
        if connection.in_flight >= _MOST_IN_FLIGHT:
            shared.count(CROWDED)
            raise Unavailable(retry_after=RETRY_AFTER)
        return Deferred.fromCoroutine(self._spend(connection, expiry_ms, random_id))

    async def _spend(self, connection: IConnection, expiry_ms: int, random_id: bytes) -> bool:
        asked = self._clock.seconds()
        shared = self._shared
        verdict, _ = await shared.ask(
            connection,
            shared.scripts.spend,
            expiry_ms,
            _name(expiry_ms, random_id),
            self._max_entries,
            shared.reach_ms,
        )
        self._duration.observe(self._clock.seconds() - asked)
        if verdict == EXPIRED:
            raise Expired
        if verdict == FULL:
            self._full = True
            self._report()
            raise Unavailable(retry_after=RETRY_AFTER)
        return verdict == 1

    def record(self, tokens: Sequence[Token]) -> Deferred[None]:
        return Deferred.fromCoroutine(self._record(tokens))

    async def _record(self, tokens: Sequence[Token]) -> None:
        connection = self._shared.pick()
        if connection is None:
            raise Unreachable(retry_after=RETRY_AFTER)
        pairs: list[object] = []
        for expiry_ms, random_id in tokens:
            pairs += (expiry_ms, _name(expiry_ms, random_id))
        await self._shared.ask(connection, self._shared.scripts.record, *pairs)

    # Once a second

    def purge(self, before_ms: int) -> Deferred[bool]:
        # This also finds out that a server that was late is well again, so
        # that no redemption has to wait for one that is not.
        connection = self._shared.pick() if self._shared.breaker.ready() else None
        if connection is None:
            return succeed(False)
        return Deferred.fromCoroutine(self._purge(connection, before_ms))

    async def _purge(self, connection: IConnection, before_ms: int) -> bool:
        asked = self._clock.seconds()
        try:
            more, _, self._entries, server_ms = await self._shared.ask(
                connection, self._shared.scripts.purge, before_ms, self._skew_ms, _BATCH
            )
        except Unreachable:
            return False
        self._shared.is_well(server_ms)
        self._full = self._entries >= self._max_entries
        self._compare_clocks(server_ms, ceil((self._clock.seconds() - asked) * 1000))
        self._report()
        return more == 1

    def _compare_clocks(self, server_ms: int, took_ms: int) -> None:
        # The server looked at its clock at some time while it was being asked.
        ahead_ms = self._now_ms() - server_ms
        self._ahead_ms = ahead_ms if ahead_ms < 0 else max(0, ahead_ms - took_ms)

    # How it is

    def _report(self) -> None:
        why = self._shared.trouble
        self.reachable = why is None
        self.trouble = why or self._limit()
        well = self.trouble is None
        if well is self._well or self._closed:
            return
        self._well = well
        if well:
            self._log.info("spent_store_usable", url=self._shared.url)
        else:
            self._log.error("spent_store_unusable", url=self._shared.url, reason=self.trouble)

    def _limit(self) -> str | None:
        if self._full:
            return "full"
        if abs(self._ahead_ms) > self._skew_ms:
            return (
                f"the clock of this machine is {self._ahead_ms / 1000:+.1f} seconds off "
                f"the server's, and pow.skew is {self._skew_ms / 1000:g}"
            )
        return None


def _name(expiry_ms: int, random_id: bytes) -> bytes:
    return expiry_ms.to_bytes(8, "big") + random_id
