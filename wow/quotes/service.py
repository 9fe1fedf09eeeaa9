"""
Words of wisdom, ready in memory.

A client never waits for a source: it is served from a pool, which is filled
behind its back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import takewhile
from typing import Any

from attrs import frozen
from prometheus_client import Counter, Gauge
from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from wow import errors
from wow.breaker import Breaker, State
from wow.metrics import Tally
from wow.pow.resource import IProtectedResource
from wow.quotes.interfaces import IQuoteSource, SourceFailed
from wow.wire import Quote

_TICK = 1.0


@frozen
class Supply:
    """A source, and the breaker that says when it may be asked."""

    source: IQuoteSource
    breaker: Breaker


@frozen
class SourceStatus:
    """
    How a source is doing.

    @ivar state: that of its breaker.
    @ivar last_error: why its last attempt failed, or None if it did not.
    """

    name: str
    state: State
    last_error: str | None


@frozen
class Status:
    """
    How the quotes are doing.

    @ivar lives_from: the source that last filled the pool, or None.
    @ivar fresh: quotes not yet served.
    @ivar served: quotes kept to be repeated when no fresh ones are left.
    @ivar sources: in the order in which they are asked.
    """

    lives_from: str | None
    fresh: int
    served: int
    sources: tuple[SourceStatus, ...]


@implementer(IProtectedResource)
class QuoteService(Service):
    """
    A bounded pool of quotes, filled from the first source that has some.

    @ivar lives_from: the source that last filled the pool, or None.
    """

    def __init__(
        self,
        supplies: Sequence[Supply],
        pool_size: int,
        clock: IReactorTime,
        log: FilteringBoundLogger,
        served: Callable[[str], Tally],
        pooled: Gauge,
        fetches: Counter,
    ) -> None:
        """
        @param supplies: in the order in which to ask them, under different names.
        @param pool_size: quotes kept to be served, and as many to be repeated.
        @param served: gives what counts quotes handed out, for a source.
        @param pooled: shows the number of fresh quotes.
        @param fetches: counts attempts, by C{source} and C{outcome}.
        """
        self._supplies = tuple(supplies)
        self._pool_size = pool_size
        self._low_water = (pool_size - 1) // 2
        self._log = log
        self._fetches = fetches
        names = [supply.source.name for supply in self._supplies]
        self._taken = {name: served(name) for name in names}
        self._errors: dict[str, str] = {}
        self._fresh: deque[Quote] = deque()
        self._served: deque[Quote] = deque(maxlen=pool_size)
        self._refilling: Deferred[None] | None = None
        self._ticking = LoopingCall(self._refill)
        self._ticking.clock = clock
        self.lives_from: str | None = None
        pooled.set_function(self._fresh.__len__)

    def startService(self) -> None:
        """Begin to fill the pool. Sources that answer at once have filled it on return."""
        super().startService()
        self._begin(self._start_with_the_last())
        self._ticking.start(_TICK, now=False)

    def stopService(self) -> Deferred[None]:
        """
        Ask no source any more. What is in the pool can still be served.

        @return: a Deferred that fires when the attempt under way has ended.
        """
        super().stopService()
        if self._ticking.running:
            self._ticking.stop()
        refilling, stopped = self._refilling, Deferred[None]()
        if refilling is None:
            return succeed(None)
        refilling.addBoth(stopped.callback)
        refilling.cancel()
        return stopped

    # Serving

    def prepare(self, client: bytes) -> Quote:
        """
        Take a quote: one not served yet if there is one, else one again.

        @raise errors.Unavailable: if there never was one.
        """
        fresh = self._fresh
        if not fresh:
            return self._repeat()
        quote = fresh.popleft()
        self._served.append(quote)
        self._taken[quote.source].count += 1
        # Only in passing: while no source answers, the clock asks, not the crowd.
        if len(fresh) == self._low_water:
            self._refill()
        return quote

    def _repeat(self) -> Quote:
        if not self._served:
            rest = min((supply.breaker.rest for supply in self._supplies), default=_TICK)
            raise errors.Unavailable(retry_after=max(_TICK, rest))
        quote = self._served[0]
        self._served.rotate(-1)
        self._taken[quote.source].count += 1
        return quote

    # What an operator sees

    @property
    def ready(self) -> bool:
        """Whether a client would get a quote now."""
        return bool(self._fresh or self._served)

    @property
    def trouble(self) -> str | None:
        """Why no client would get a quote, or None if one would."""
        return None if self.ready else "no source has had a quote yet"

    def status(self) -> Status:
        """How the pool and its sources are doing."""
        return Status(
            self.lives_from,
            len(self._fresh),
            len(self._served),
            tuple(self._status_of(supply) for supply in self._supplies),
        )

    def _status_of(self, supply: Supply) -> SourceStatus:
        name = supply.source.name
        return SourceStatus(name, supply.breaker.state, self._errors.get(name))

    # Filling the pool

    def _refill(self) -> None:
        if self.running and self._refilling is None and len(self._fresh) <= self._low_water:
            self._begin(self._ask_in_turn(self._supplies))

    def _begin(self, refilling: Deferred[None]) -> None:
        self._refilling = refilling
        refilling.addErrback(self._refill_broke).addCallback(self._refilled)

    def _refill_broke(self, failure: Failure) -> None:
        self._log.error("quotes_refill_broke", exc_info=failure)

    def _refilled(self, _: None) -> None:
        self._refilling = None

    @inlineCallbacks
    def _start_with_the_last(self) -> Generator[Deferred[Any], Any, None]:
        # The source of last resort is as a rule the one that answers at once.
        # So the first clients are served while a better one takes its time.
        yield self._ask_in_turn(self._supplies[-1:])
        if self.running:
            yield self._ask_in_turn(self._supplies[:-1])

    @inlineCallbacks
    def _ask_in_turn(self, supplies: Sequence[Supply]) -> Generator[Deferred[bool], bool, None]:
        for supply in supplies:
            if supply.breaker.ready():
                filled = yield self._ask(supply)
                if filled or not self.running:
                    return
            elif not supply.breaker.failing:
                # It gave a moment ago and only keeps its pace: those quotes
                # are good for another round, rather than a lesser source's.
                return

    def _ask(self, supply: Supply) -> Deferred[bool]:
        fetched: Deferred[list[Quote]] = maybeDeferred(supply.source.fetch)
        return fetched.addCallbacks(
            self._fill, self._failed, callbackArgs=(supply,), errbackArgs=(supply,)
        )

    def _fill(self, quotes: list[Quote], supply: Supply) -> bool:
        name = supply.source.name
        supply.breaker.succeeded()
        self._fetches.labels(name, "ok").inc()
        self._errors.pop(name, None)
        if name != self.lives_from:
            # What is left of another source's is kept for repeats.
            self._served.extend(self._fresh)
            self._fresh.clear()
        self._fresh.extend(quotes[: self._pool_size - len(self._fresh)])
        self._live_from(name)
        return True

    def _failed(self, failure: Failure, supply: Supply) -> bool:
        if not self.running:
            return False
        name, breaker = supply.source.name, supply.breaker
        reason = str(failure.value) if failure.check(SourceFailed) else type(failure.value).__name__
        news = not breaker.failing
        closed = breaker.state is State.CLOSED
        breaker.failed()
        self._fetches.labels(name, "failed").inc()
        self._errors[name] = reason
        news = news or (closed and breaker.state is not State.CLOSED)
        tell = self._log.warning if news else self._log.debug
        tell("quotes_source_failed", source=name, reason=reason, breaker=str(breaker.state))
        return False

    def _live_from(self, name: str) -> None:
        before, self.lives_from = self.lives_from, name
        if before == name:
            return
        reason = self._why_not_before(name)
        if reason is None:
            reason, tell = "preferred" if before else "first quotes", self._log.info
        else:
            tell = self._log.warning
        tell("quotes_source_changed", source=name, instead_of=before, reason=reason)

    def _why_not_before(self, name: str) -> str | None:
        # The first source that the operator would rather live from.
        names = (supply.source.name for supply in self._supplies)
        better = takewhile(lambda other: other != name, names)
        return next((self._errors[other] for other in better if other in self._errors), None)
