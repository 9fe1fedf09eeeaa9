"""The spent store as a service: opened, purged in the background, closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import Gauge
from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from wow.pow.spent import ISpentStore

_INTERVAL = 1.0
_PAUSE = 0.005


class Purge(Service):
    """
    Opens a spent store, and purges it once a second, in batches with a pause
    between them, so that neither the reactor nor the store's lock is held for
    long.
    """

    def __init__(
        self,
        spent: ISpentStore,
        skew_ms: int,
        now_ms: Callable[[], int],
        clock: IReactorTime,
        log: FilteringBoundLogger,
        entries: Gauge,
        usable: Gauge,
    ) -> None:
        """
        @param skew_ms: how much longer than its expiry a token may be redeemed.
        @param entries: set to the number of tokens remembered.
        @param usable: set to whether the store takes tokens.
        """
        self._spent = spent
        self._skew_ms = skew_ms
        self._now_ms = now_ms
        self._log = log
        self._entries = entries
        self._usable = usable
        self._clock = clock
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        """
        Open the store and begin.

        @raise CannotOpen: if the store cannot be used.
        """
        super().startService()
        self._spent.open()
        self._purge()

    def stopService(self) -> Deferred[None] | None:
        """
        Close the store.

        @return: None, or a Deferred that fires when that is done.
        """
        super().stopService()
        if self._next is not None:
            self._next.cancel()
        return self._spent.close()

    def _purge(self) -> None:
        self._next = None
        purge: Callable[[int], Any] = self._spent.purge
        purging: Deferred[bool] = maybeDeferred(purge, self._now_ms() - self._skew_ms)
        purging.addErrback(self._failed).addCallback(self._purged)

    def _failed(self, failure: Failure) -> bool:
        self._log.error("purge_failed", exc_info=failure)
        return False

    def _purged(self, more: bool) -> None:
        self._entries.set(self._spent.count())
        self._usable.set(self._spent.trouble is None)
        if self.running:
            self._next = self._clock.callLater(_PAUSE if more else _INTERVAL, self._purge)
