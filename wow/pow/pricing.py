"""
How much work to ask now: the price, and the loop that moves it.

The effort asked is C{base x surge x the client's factor}, within floor and
ceiling. Surge follows the load, as in Tor's proposals 327 and 362 (arti,
C{tor-hsservice}): once a period the price becomes what the exchanges of that
period paid on average, times how far they were over the share of the event
loop's time that they are to have. So whoever has H hashes a second, where
there is room for C exchanges a second, finds a price of H / C, and gets no
more than the room. Under no load the price halves until it is at the base.

"Onions Got Puzzled" (USENIX Security 2025) inflates the price of Tor's loop
for little money in four ways, which fail here:

  - I{end rush}: a burst when the loop looks, so that requests are left over.
    Here all of a period counts alike, and nobody knows when it ends.
  - I{temporary turmoil}: requests that are counted and then discarded. Here
    only what was redeemed counts, at no more than the price, and a period
    at most doubles it.
  - I{choking}: time is taken from the exchanges, so that the few handled look
    dear. Here an exchange is believed to take no more than C{MOST}, and
    other work leaves exchanges a share of their time, come what may.
  - I{maintenance}: cheap requests hold the price up. Here it falls to what
    they paid.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import field, frozen
from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from wow.pow.work import target

LEVELS = 10
"""The price is doubled for one client no more often than this."""

MOST = 200e-6
"""
Seconds of the loop's time that an exchange is believed to take, at most. What
the loop was busy beyond that is noise, which no price deters.
"""

_LEFT = 0.25
"""The part of their time that exchanges are left with, whatever the noise."""

_LOADS = (0.001, 0.9)
"""
What can be aimed at. A loop that is always busy does not tell how much more
is asked of it than it does.
"""

_SECONDS = (0.001, 10.0**6)
_MANY = 10.0**12


@frozen
class Price:
    """
    How much work a challenge asks.

    @ivar rounds: 1 to 64 puzzles; more of them narrow the spread of the time
        it takes to solve all.
    @ivar round_effort: expected hashes for one of them.
    @ivar effort: expected hashes for the whole challenge.
    @ivar target: the largest first 8 bytes of a digest that solve a round, in hex.
    """

    rounds: int
    round_effort: int
    effort: int = field(init=False, eq=False)
    target: str = field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        # Once for a price, of which many challenges are made.
        object.__setattr__(self, "effort", self.rounds * self.round_effort)
        object.__setattr__(self, "target", f"{target(self.round_effort):016x}")

    @classmethod
    def of(cls, effort: int, rounds: int) -> Price:
        """Divide an effort into rounds, each at least one hash."""
        return cls(rounds, max(1, effort // rounds))


@frozen
class Period:
    """
    What was seen between two looks at the load.

    @ivar seconds: its length.
    @ivar busy: seconds of it that the event loop was busy with anything.
    @ivar exchanges: solutions redeemed in it.
    @ivar effort: what was paid for them, in hashes: the sum of their efforts,
        each counted as no more than the price when it was redeemed.
    """

    seconds: float
    busy: float
    exchanges: float
    effort: float

    @property
    def share(self) -> float:
        """The share of the time that the loop was busy, 0 to 1."""
        return _clamp(self.busy / _clamp(self.seconds, *_SECONDS), 0.0, 1.0)

    @property
    def average(self) -> float:
        """What was paid for an exchange, in hashes; 0 if there was none."""
        return self.effort / max(1.0, self.exchanges)

    def sane(self, price: float) -> Period:
        """
        The same, with figures that clocks out of step cannot explain put right.

        @param price: what was asked in it, in hashes.
        """
        seconds = _clamp(self.seconds, *_SECONDS)
        exchanges = _clamp(self.exchanges, 0.0, _MANY)
        effort = _clamp(self.effort, 0.0, exchanges * price)
        return Period(seconds, _clamp(self.busy, 0.0, seconds), exchanges, effort)


def pressure(period: Period, load: float) -> float:
    """
    How much more time exchanges took than there was room for: 1 is just right.

    More exchanges, or more time, never make it less. That is why, where the
    loop was busier than it should be, all of its time is compared, the noise
    with the rest: the room that noise leaves would grow with the exchanges
    that the same time is put down to.

    @param load: the share of the loop's time that is to be in use, above 0.
    """
    target = load * period.seconds
    paid = min(period.busy, period.exchanges * MOST)
    if period.busy > target:
        return min(period.busy, paid / _LEFT) / target
    return paid / max(target - (period.busy - paid), _LEFT * target)


class Surge:
    """
    The closed loop: moves the price with the load.

    @ivar effort: hashes asked of a client that nothing is known of.
    """

    def __init__(self, base: float, ceiling: float, load: float) -> None:
        """
        @param base: the price under no load, in hashes.
        @param ceiling: the highest price, in hashes.
        @param load: the share of its time that the loop is to be busy, 0 to 1.
        """
        self.effort = float(base)
        self._base = float(base)
        self._ceiling = float(ceiling)
        self._load = _clamp(load, *_LOADS)

    def step(self, period: Period) -> None:
        """Draw the conclusion from a period: the price at most doubles, and at most halves."""
        seen = period.sane(self.effort)
        wanted = seen.average * pressure(seen, self._load)
        near = _clamp(wanted, self.effort / 2, self.effort * 2)
        self.effort = _clamp(near, self._base, self._ceiling)


class Pricing:
    """What to ask of whom, and what was paid."""

    def __init__(
        self,
        *,
        base: int,
        floor: int,
        ceiling: int,
        rounds: int,
        load: float,
        busy: Callable[[], float],
        seconds: Callable[[], float],
    ) -> None:
        """
        @param base: hashes to ask under no load.
        @param floor: hashes to ask at least.
        @param ceiling: hashes to ask at most; less than 2^32 a round.
        @param rounds: puzzles in a challenge, 1 to 64. A price is rounded down
            to what can be divided among them.
        @param load: the share of the loop's time that is to be in use, 0 to 1.
        @param busy: seconds that the event loop was busy so far.
        @param seconds: a clock that is never set.
        """
        self._busy = busy
        self._seconds = seconds
        self._surge = Surge(base, ceiling, load)
        self._take(base, floor, ceiling, rounds)
        self._begin()

    def _take(self, base: int, floor: int, ceiling: int, rounds: int) -> None:
        self._base = base
        self._floor = floor
        self._ceiling = ceiling
        self._rounds = rounds

    def change(self, *, base: int, floor: int, ceiling: int, rounds: int, load: float) -> None:
        """
        Go by other settings from now on. What the load has made of the price
        it stays, as far as these let it.
        """
        surge = self.surge
        self._surge = Surge(base, ceiling, load)
        self._surge.effort = _clamp(base * surge, base, ceiling)
        self._take(base, floor, ceiling, rounds)
        self._make_prices()

    def _begin(self) -> None:
        self._began = self._seconds()
        self._busy_before = self._busy()
        self._exchanges = 0
        self._effort = 0.0
        self._make_prices()

    def _make_prices(self) -> None:
        # Looked up with each challenge, and made anew only here.
        self._prices = [self._make(level) for level in range(LEVELS + 1)]

    def _make(self, level: int) -> Price:
        effort = _clamp(self._surge.effort * 2**level, self._floor, self._ceiling)
        return Price.of(int(effort), self._rounds)

    @property
    def effort(self) -> int:
        """Hashes asked of a client that nothing is known of."""
        return self._prices[0].effort

    @property
    def surge(self) -> float:
        """How many times the base that is, for the load alone: 1 if there is little."""
        return self._surge.effort / self._base

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the most hashes that can be asked of anybody."""
        least, most = (Price.of(each, self._rounds) for each in (self._floor, self._ceiling))
        return least.effort, most.effort

    def price(self, level: int) -> Price:
        """
        What to ask of a client now.

        @param level: how many times the price is doubled for it, 0 to C{LEVELS}.
        """
        return self._prices[level]

    def paid(self, effort: int) -> None:
        """
        A solution was redeemed.

        @param effort: the hashes that its challenge asked. What is above the
            price of now does not count: few who paid much are no load.
        """
        self._exchanges += 1
        self._effort += min(effort, self._surge.effort)

    def reprice(self) -> Period:
        """
        Close the period, and set the price for the next.

        @return: what was seen.
        """
        period = Period(
            self._seconds() - self._began,
            self._busy() - self._busy_before,
            self._exchanges,
            self._effort,
        )
        self._surge.step(period)
        self._begin()
        return period


class Repricing(Service):
    """
    Sets the price anew after periods whose length nobody can foresee.

    @ivar period: seconds, give or take a quarter. May be changed, for the next one.
    """

    _next: IDelayedCall

    def __init__(
        self,
        pricing: Pricing,
        period: float,
        clock: IReactorTime,
        chance: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param period: seconds, give or take a quarter.
        @param chance: gives a random number, 0 to 1.
        """
        self.period = period
        self._pricing = pricing
        self._clock = clock
        self._chance = chance
        self._log = log
        self._told = 1.0

    def startService(self) -> None:
        super().startService()
        self._wait()

    def stopService(self) -> None:
        super().stopService()
        self._next.cancel()

    def _wait(self) -> None:
        self._next = self._clock.callLater(
            self.period * (0.75 + 0.5 * self._chance()), self._reprice
        )

    def _reprice(self) -> None:
        try:
            self._tell(self._pricing.reprice())
        except Exception:
            self._log.error("repricing_failed", exc_info=Failure())
        self._wait()

    def _tell(self, period: Period) -> None:
        # Only what has at least doubled or halved since the last line, or is
        # over: under attack the price moves with each period.
        surge, told = self._pricing.surge, self._told
        if told / 2 < surge < told * 2 and (surge > 1.0 or told == 1.0):
            return
        self._told = surge
        self._log.info(
            "price",
            effort=self._pricing.effort,
            surge=round(surge, 2),
            exchanges=period.exchanges,
            busy=round(period.share, 3),
        )


def _clamp(value: float, least: float, most: float) -> float:
    # In this order, so that what is not a number becomes the least.
    return min(max(least, value), most)
