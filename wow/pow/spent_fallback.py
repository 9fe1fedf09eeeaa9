"""
The spent store of many machines, with one on each that stands in for it.

What is redeemed is remembered in both. While the shared store is out of reach
the one on this machine decides alone, so a proof can then be redeemed once on
each machine. What it decided is told to the shared store once that is back,
so that it holds everywhere until it has expired.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from wow.errors import Expired, Unavailable
from wow.metrics import Tally
from wow.pow.spent import (
    CannotOpen,
    ILocalSpentStore,
    ISharedSpentStore,
    ISpentStore,
    Token,
    Unreachable,
)

_BATCH = 500


@implementer(ISpentStore)
class FallbackSpentStore:
    """Two stores, of which the shared one has the say while it can be asked."""

    def __init__(
        self,
        shared: ISharedSpentStore,
        local: ILocalSpentStore,
        alone: Tally,
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param alone: counts tokens spent on this machine alone.
        """
        self._shared = shared
        self._local = local
        self._alone = alone
        self._log = log
        self._owing = False
        self._telling: Deferred[Any] | None = None

    @property
    def mark(self) -> int:
        """See L{ISpentStore}."""
        # The local store's alone keeps nobody out while there is the other.
        if self._shared.reachable:
            return self._shared.mark
        return max(self._shared.mark, self._local.mark)

    @property
    def trouble(self) -> str | None:
        """See L{ISpentStore}."""
        return self._shared.trouble if self._shared.reachable else self._local.trouble

    def open(self) -> None:
        self._local.open()
        self._shared.open()
        # Some of what is there may be from an outage that another process saw.
        self._owing = self._local.count() > 0

    def count(self) -> int:
        return (self._shared if self._shared.reachable else self._local).count()

    def status(self) -> Mapping[str, object]:
        return {
            **self._shared.status(),
            "shared_trouble": self._shared.trouble,
            "local_trouble": self._local.trouble,
            "alone": not self._shared.reachable,
            "owing": self._owing,
        }

    def close(self) -> Deferred[None]:
        self._local.close()
        return self._shared.close()

    # Spending

    def spend(self, expiry_ms: int, random_id: bytes) -> bool | Deferred[bool]:
        token = (expiry_ms, random_id)
        try:
            spending = self._shared.spend(*token)
        except Unreachable:
            return self._spend_alone(token)
        return spending.addCallbacks(
            self._answered, self._failed, callbackArgs=(token,), errbackArgs=(token,)
        )

    def _answered(self, first: bool, token: Token) -> bool:
        # Remembered here too, for an outage to come; and if it was spent here
        # in one that has just ended, the other does not know it yet.
        return first and self._is_new_here(token)

    def _is_new_here(self, token: Token) -> bool:
        try:
            return self._local.spend(*token)
        except (Expired, Unavailable):
            return True

    def _failed(self, failure: Failure, token: Token) -> bool:
        failure.trap(Unreachable)
        return self._spend_alone(token)

    def _spend_alone(self, token: Token) -> bool:
        try:
            first = self._local.spend(*token)
        except Expired:
            # By the mark of a store that began not long ago. The other may
            # know better, once it is back.
            raise Unreachable(retry_after=1) from None
        self._owing = True
        self._alone.count += first
        return first

    # Once a second

    def purge(self, before_ms: int) -> Deferred[bool]:
        purging = self._shared.purge(before_ms)
        return purging.addCallback(self._purged, self._local.purge(before_ms))

    def _purged(self, more_there: bool, more_here: bool) -> bool:
        if self._owing and self._shared.reachable and self._telling is None:
            self._telling = Deferred.fromCoroutine(self._tell())
            self._telling.addErrback(self._tell_failed).addCallback(self._told)
        return more_there or more_here

    async def _tell(self) -> None:
        # Set again by whatever is spent here alone meanwhile.
        self._owing = False
        number = 0
        after: Token = (0, b"")
        while tokens := self._local.recall(after, _BATCH):
            await self._shared.record(tokens)
            number, after = number + len(tokens), tokens[-1]
        self._log.info("spent_store_told", tokens=number)

    def _tell_failed(self, failure: Failure) -> None:
        self._owing = True
        if not failure.check(Unavailable, CannotOpen):
            self._log.error("spent_store_not_told", exc_info=failure)

    def _told(self, _: None) -> None:
        self._telling = None
