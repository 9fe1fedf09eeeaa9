"""The price follows what is paid for, not what is made to look like load."""

from __future__ import annotations

import io
import json
import math
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.logs import make_logger
from wow.pow.pricing import LEVELS, MOST, Period, Price, Pricing, Repricing, Surge

BASE, CEILING, ROUNDS = 2**20, 2**26, 8
LOAD, PERIOD = 0.6, 1.0

COST = 100e-6
"""Seconds of the loop's time that an exchange takes."""

ROOM = LOAD / COST
"""Exchanges a second that fit into the load."""

TICK = PERIOD / 40


def periods() -> st.SearchStrategy[Period]:
    """Anything that a clock, or a count, might ever say."""
    anything = st.floats() | st.integers(-(10**400), 10**400)
    return st.builds(Period, anything, anything, st.integers(-10, 10**400), anything)


@st.composite
def surges(draw: st.DrawFn) -> tuple[int, int, Surge]:
    """A base, a ceiling, and a price anywhere between them."""
    base = draw(st.integers(1, 2**38))
    ceiling = draw(st.integers(base, 2**38))
    surge = Surge(base, ceiling, draw(st.floats(0, 1)))
    surge.effort = draw(st.floats(base, ceiling))
    return base, ceiling, surge


@st.composite
def loads(draw: st.DrawFn) -> Load:
    """Exchanges, and what else keeps a loop busy."""
    return Load(
        surge=draw(st.floats(1, 2**10)),
        load=draw(st.floats(0.01, 1)),
        seconds=draw(st.floats(0.1, 10)),
        cost=draw(st.floats(1e-6, 2e-3)),
        noise=draw(st.floats(0, 10)),
        exchanges=draw(st.integers(0, 100_000)),
        paid=draw(st.floats(0, 1)),
    )


class Load:
    """
    A period as a loop brings it about: no busier than there is time.

    @ivar cost: seconds that an exchange takes.
    @ivar noise: seconds that other things take.
    @ivar paid: what is paid for an exchange, as a share of the price.
    """

    def __init__(self, **values: Any) -> None:
        self.values = values

    def price(self, **more: float) -> float:
        """The price after this period, or after one with more of something."""
        values = {name: value + more.get(name, 0) for name, value in self.values.items()}
        surge = Surge(1.0, 2.0**20, values["load"])
        surge.effort = values["surge"]
        spent = values["noise"] + values["exchanges"] * values["cost"]
        effort = values["exchanges"] * values["paid"] * surge.effort
        seconds = values["seconds"]
        surge.step(Period(seconds, min(seconds, spent), values["exchanges"], effort))
        return surge.effort


class Bounds(SynchronousTestCase):
    @given(surges(), st.lists(periods(), max_size=20))
    def test_from_base_to_ceiling_whatever_is_seen(
        self, start: tuple[int, int, Surge], seen: list[Period]
    ) -> None:
        base, ceiling, surge = start
        for period in seen:
            surge.step(period)
            self.assertTrue(base <= surge.effort <= ceiling)

    @given(surges(), periods())
    def test_at_most_doubled_and_at_most_halved(
        self, start: tuple[int, int, Surge], period: Period
    ) -> None:
        _, _, surge = start
        before = surge.effort
        surge.step(period)
        self.assertTrue(before / 2 <= surge.effort <= before * 2)

    @given(st.integers(1, 2**38), st.integers(1, 2**38), st.floats(0, 10))
    def test_at_base_again_once_nothing_is_asked(self, one: int, other: int, busy: float) -> None:
        base, ceiling = sorted([one, other])
        surge = Surge(base, ceiling, LOAD)
        surge.effort = float(ceiling)
        for _ in range(math.ceil(math.log2(ceiling / base))):
            self.assertGreater(surge.effort, base)
            surge.step(Period(PERIOD, busy, 0, 0.0))
        self.assertEqual(surge.effort, base)


class MoreLoad(SynchronousTestCase):
    """More of anything never makes it cheaper."""

    def assertNotCheaper(self, load: Load, **more: float) -> None:
        self.assertGreaterEqual(load.price(**more), load.price() * (1 - 1e-9))

    @given(loads(), st.integers(1, 10_000))
    def test_exchanges_at_the_same_price(self, load: Load, more: int) -> None:
        self.assertNotCheaper(load, exchanges=more)

    @given(loads(), st.floats(0, 1))
    def test_effort_for_the_same_exchanges(self, load: Load, more: float) -> None:
        self.assertNotCheaper(load, paid=more)

    @given(loads(), st.floats(0, 10))
    def test_noise(self, load: Load, more: float) -> None:
        self.assertNotCheaper(load, noise=more)

    @given(loads(), st.floats(0, 1e-3))
    def test_time_that_an_exchange_takes(self, load: Load, more: float) -> None:
        self.assertNotCheaper(load, cost=more)


class OnePeriod(SynchronousTestCase):
    """What a single period does to a price of 16, the base being 1."""

    def price(self, period: Period, load: float = LOAD) -> float:
        surge = Surge(1.0, 2.0**20, load)
        surge.effort = 16.0
        surge.step(period)
        return surge.effort

    def test_just_right(self) -> None:
        self.assertAlmostEqual(self.price(Period(4.0, 2.4, 24_000, 24_000 * 16)), 16)

    def test_a_third_too_much(self) -> None:
        self.assertAlmostEqual(self.price(Period(4.0, 3.2, 32_000, 32_000 * 16)), 16 * 4 / 3)

    def test_a_quarter_too_little(self) -> None:
        self.assertAlmostEqual(self.price(Period(4.0, 1.8, 18_000, 18_000 * 16)), 16 * 3 / 4)

    def test_cheap_ones_count_with_what_they_paid(self) -> None:
        paid = 16_000 * 16 + 16_000 * 8
        self.assertAlmostEqual(self.price(Period(4.0, 3.2, 32_000, paid)), 12 * 4 / 3)

    def test_noise_leaves_less_room(self) -> None:
        period = Period(4.0, 1.2 + 1.2, 6_000, 6_000 * 16)
        self.assertAlmostEqual(self.price(period), 16)
        self.assertGreater(self.price(evolve(period, busy=2.6)), 16)

    def test_noise_leaves_a_quarter_of_the_room(self) -> None:
        most = round(0.25 * LOAD * 4.0 / MOST)
        self.assertAlmostEqual(self.price(Period(4.0, 4.0, most, most * 16)), 16)

    def test_noise_up_to_the_load_does_not_hold_the_price(self) -> None:
        self.assertEqual(self.price(Period(4.0, 2.4, 100, 100 * 16)), 8)

    def test_exchanges_that_take_longer_than_believed(self) -> None:
        self.assertGreater(self.price(Period(4.0, 4.0, 4_000, 4_000 * 16)), 16)

    def test_even_at_full_load_a_loop_can_be_too_busy(self) -> None:
        self.assertGreater(self.price(Period(4.0, 4.0, 40_000, 40_000 * 16), load=1.0), 16)


def price_of(base: int = BASE, **settings: Any) -> Pricing:
    """Prices that follow no load."""
    idle: dict[str, Any] = {"busy": lambda: 0.0, "seconds": lambda: 0.0}
    usual = {"floor": ROUNDS, "ceiling": CEILING, "rounds": ROUNDS, "load": LOAD}
    return Pricing(base=base, **usual | idle | settings)


class Prices(SynchronousTestCase):
    def test_base_at_first(self) -> None:
        pricing = price_of()
        self.assertEqual(pricing.price(0), Price(8, BASE // 8))
        self.assertEqual((pricing.effort, pricing.surge), (BASE, 1.0))

    def test_changed_while_it_is_high(self) -> None:
        pricing = price_of(busy=lambda: 0.0)
        pricing._surge.effort = 4.0 * BASE
        changed: dict[str, Any] = {
            "floor": 2 * BASE,
            "ceiling": 6 * BASE,
            "rounds": 4,
            "load": LOAD,
        }
        pricing.change(base=BASE, **changed)
        self.assertEqual((pricing.surge, pricing.price(0)), (4.0, Price(4, BASE)))
        self.assertEqual(pricing.price(1).effort, 6 * BASE)
        pricing.change(base=2 * BASE, **changed)
        self.assertEqual((pricing.surge, pricing.effort), (3.0, 6 * BASE))
        pricing.change(base=BASE, **changed | {"ceiling": BASE, "floor": ROUNDS})
        self.assertEqual((pricing.surge, pricing.effort), (1.0, BASE))

    def test_doubled_with_each_level(self) -> None:
        pricing = price_of(ceiling=2**34)
        efforts = [pricing.price(level).effort for level in range(LEVELS + 1)]
        self.assertEqual(efforts, [BASE * 2**level for level in range(LEVELS + 1)])

    def test_never_above_the_ceiling(self) -> None:
        self.assertEqual(price_of(ceiling=BASE * 3).price(2).effort, BASE * 3)

    def test_never_below_the_floor(self) -> None:
        self.assertEqual(price_of(base=64, floor=128).price(0).effort, 128)

    def test_rounded_down_to_what_rounds_can_share(self) -> None:
        self.assertEqual(price_of(base=1007).price(0), Price(8, 125))

    @given(st.data())
    def test_that_can_be_asked(self, data: st.DataObject) -> None:
        rounds = data.draw(st.integers(1, 64))
        ceiling = data.draw(st.integers(rounds, rounds * 2**32 - 1))
        base = data.draw(st.integers(rounds, ceiling))
        floor = data.draw(st.integers(rounds, base))
        times = st.floats(0, 10**6)
        pricing = price_of(
            base,
            floor=floor,
            ceiling=ceiling,
            rounds=rounds,
            busy=lambda: data.draw(times),
            seconds=lambda: data.draw(times),
        )
        for effort in data.draw(st.lists(st.integers(1, 2**38), max_size=5)):
            efforts = [pricing.price(level).effort for level in range(LEVELS + 1)]
            self.assertEqual(efforts, sorted(efforts))
            self.assertTrue(floor - rounds < efforts[0] <= efforts[-1] <= ceiling)
            self.assertTrue(1 <= efforts[-1] // rounds < 2**32)
            pricing.paid(effort)
            pricing.reprice()


class Payments(SynchronousTestCase):
    """A period of 4 seconds in which 32000 exchanges took 3.2."""

    def after(self, *efforts: int) -> float:
        """The surge if these were paid in turn, when the price was twice the base."""
        clock = [0.0, 0.0]
        pricing = price_of(busy=lambda: clock[0], seconds=lambda: clock[1], load=0.3)
        for paid in ((BASE,), efforts):
            clock = [clock[0] + 3.2, clock[1] + 4.0]
            for number in range(32_000):
                pricing.paid(paid[number % len(paid)])
            pricing.reprice()
        return pricing.surge

    def test_above_the_price_count_as_the_price(self) -> None:
        self.assertEqual(self.after(BASE * 1000), self.after(BASE * 2))

    def test_above_the_price_do_not_make_up_for_those_below(self) -> None:
        self.assertAlmostEqual(self.after(BASE * 1000, BASE // 2), 1.25 * 8 / 3)

    def test_below_the_price_count_as_paid(self) -> None:
        self.assertAlmostEqual(self.after(BASE), 8 / 3)

    def test_count_in_one_period(self) -> None:
        pricing = price_of()
        pricing.paid(BASE)
        self.assertEqual(pricing.reprice(), Period(0.0, 0.0, 1, BASE))
        self.assertEqual(pricing.reprice(), Period(0.0, 0.0, 0, 0.0))


class Simulated(SynchronousTestCase):
    """
    A server whose loop does one thing after the other, in ticks.

    In each of these an honest client pays what is asked.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.busy = 0.0
        self.left = 0.0
        self.paid = 0
        self.pricing = price_of(busy=lambda: self.busy, seconds=self.clock.seconds)
        log = make_logger(io.StringIO(), "info", "json")
        chance = Random(1).random
        repricing = Repricing(self.pricing, PERIOD, self.clock, chance, log)
        repricing.startService()
        self.addCleanup(repricing.stopService)

    def exchange(self, effort: int) -> bool:
        """
        Redeem a solution that took so many hashes.

        @return: whether there was time for it.
        """
        if self.left < COST:
            return False
        self.work(COST)
        self.paid += effort
        self.pricing.paid(effort)
        return True

    def work(self, seconds: float) -> None:
        """Be busy for as long, or for what is left of the tick."""
        seconds = min(seconds, self.left)
        self.busy += seconds
        self.left -= seconds

    def simulate(self, periods: float, *actors: Callable[[], object]) -> list[float]:
        """
        Let time pass.

        @param periods: how much of it, in periods as long as most are.
        @param actors: called once a tick.
        @return: the surge at the end of each tick.
        """
        surges = []
        for _ in range(round(periods * PERIOD / TICK)):
            self.left = TICK
            self.exchange(self.pricing.effort)
            for act in actors:
                act()
            self.clock.advance(TICK)
            surges.append(self.pricing.surge)
        return surges

    def handing_in(self, rate: float, effort: Callable[[], int]) -> Callable[[], None]:
        """An actor that hands in so many solutions a second, of such an effort."""

        def act() -> None:
            for _ in range(round(rate * TICK)):
                self.exchange(effort())

        return act

    def miner(self, surge: float, connections: int = 500) -> Miner:
        """One with the hashes to fill the room at so many times the base."""
        return Miner(self, surge * ROOM * BASE, connections)

    def share(self, periods: float, *actors: Callable[[], object]) -> float:
        """The share of the time that the loop is busy."""
        before = self.busy
        self.simulate(periods, *actors)
        return (self.busy - before) / (periods * PERIOD)

    def assertBaseSoon(self, *actors: Callable[[], object]) -> None:
        self.simulate(15, *actors)
        self.assertEqual(set(self.simulate(15, *actors)), {1.0})

    def assertClose(self, value: float, expected: float) -> None:
        self.assertTrue(0.85 * expected < value < 1.15 * expected, (value, expected))


class Miner:
    """Takes challenges, as many at a time as it has connections, and solves them."""

    def __init__(self, server: Simulated, hashes: float, connections: int) -> None:
        """
        @param hashes: a second.
        """
        self._server = server
        self._hashes = hashes
        self._connections = connections
        self._done = 0.0
        self._taken = deque[int]()
        self._solved = deque[int]()

    def __call__(self) -> None:
        free = self._connections - len(self._taken) - len(self._solved)
        self._taken.extend([self._server.pricing.effort] * free)
        self._solve()
        while self._solved and self._server.exchange(self._solved[0]):
            self._solved.popleft()

    def _solve(self) -> None:
        self._done += self._hashes * TICK
        while self._taken and self._done >= self._taken[0]:
            self._done -= self._taken[0]
            self._solved.append(self._taken.popleft())
        if not self._taken:
            self._done = 0.0


class RushAtTheEnd(Simulated):
    """Solutions saved up, and handed in when the period is about to end."""

    def rush(self, solutions: int) -> Callable[[], None]:
        """An actor that hands in so many, at the base price, in the end of each second."""
        saved = 0

        def act() -> None:
            nonlocal saved
            if self.clock.seconds() % PERIOD < TICK:
                saved = solutions
            if self.clock.seconds() % PERIOD > PERIOD / 2:
                while saved and self.exchange(BASE):
                    saved -= 1

        return act

    def test_counts_as_if_spread_over_the_period(self) -> None:
        self.assertEqual(set(self.simulate(30, self.rush(1_250))), {1.0})

    def test_that_is_too_much_raises_the_price_no_further_than_it_paid(self) -> None:
        surges = self.simulate(30, self.rush(5_000))
        self.assertTrue(1 < max(surges) <= 1 / LOAD)
        self.assertBaseSoon()

    def test_of_the_work_of_many_periods(self) -> None:
        stock = deque([BASE] * 15_000)

        def rush() -> None:
            while stock and self.exchange(stock[0]):
                stock.popleft()

        surges = self.simulate(4, rush)
        self.assertFalse(stock)
        self.assertTrue(1 < max(surges) <= 1 / LOAD)
        self.assertBaseSoon()


class ShortTurmoil(Simulated):
    """A burst that is paid for."""

    def setUp(self) -> None:
        super().setUp()
        self.simulate(5)
        self.paid = 0
        self.peak = max(self.simulate(2.5, self.miner(20)) + self.simulate(1.25))

    def test_raises_the_price(self) -> None:
        self.assertGreater(self.peak, 1.5)

    def test_for_no_less_than_was_paid(self) -> None:
        self.assertLessEqual(self.peak * BASE * ROOM * PERIOD * 0.75, self.paid)

    def test_is_over_soon(self) -> None:
        self.assertBaseSoon()


class Choking(Simulated):
    """Rubbish that takes the loop's time from the exchanges."""

    def rubbish(self) -> None:
        self.work(TICK)

    def test_does_not_make_honest_ones_pay_for_it(self) -> None:
        self.assertEqual(set(self.simulate(30, self.rubbish)), {1.0})

    def test_nor_many_of_them(self) -> None:
        clients = self.handing_in(500, lambda: self.pricing.effort)
        self.assertEqual(set(self.simulate(30, clients, self.rubbish)), {1.0})
        self.assertAlmostEqual(self.share(3, clients, self.rubbish), 1.0)

    def test_does_not_keep_a_flood_cheap(self) -> None:
        actors = (lambda: self.work(TICK * 0.4), self.miner(8))
        self.simulate(23, *actors)
        self.assertClose(self.share(8, *actors), LOAD)
        self.assertClose(self.pricing.surge, 8 * LOAD / (LOAD - 0.4))


class CheapMaintenance(Simulated):
    """The price was driven up for money. To keep it there takes as much."""

    def setUp(self) -> None:
        super().setUp()
        self.simulate(15, self.miner(20))
        self.assertGreater(self.pricing.surge, 10)

    def test_by_solutions_from_when_it_was_low(self) -> None:
        self.assertBaseSoon(self.handing_in(ROOM * 0.9, lambda: BASE))

    def test_by_as_many_of_those_as_there_is_time_for(self) -> None:
        cheap = self.handing_in(1 / COST, lambda: BASE)
        self.simulate(15, cheap)
        # The honest ones, who pay in full, add a trifle.
        self.assertLess(max(self.simulate(15, cheap)), 1.01 / LOAD)

    def test_by_few_solutions_at_the_full_price(self) -> None:
        self.assertBaseSoon(self.handing_in(60, lambda: self.pricing.effort))

    def test_by_few_solutions_far_above_the_price(self) -> None:
        self.assertBaseSoon(self.handing_in(600, lambda: CEILING))

    def test_by_half_of_what_it_took(self) -> None:
        miner = self.miner(10)
        self.simulate(15, miner)
        self.assertLess(max(self.simulate(8, miner)), 10 * 1.15)


class Flood(Simulated):
    """Someone who pays what is asked, as fast as the hashes come."""

    def test_finds_the_price_at_which_it_fits_the_room(self) -> None:
        miner = self.miner(8)
        self.simulate(15, miner)
        for surge in self.simulate(8, miner):
            self.assertClose(surge, 8)
        self.assertClose(self.share(8, miner), LOAD)

    def test_finds_it_too_where_solving_takes_longer_than_a_period(self) -> None:
        miner = self.miner(8, connections=round(ROOM * PERIOD * 1.25))
        self.simulate(23, miner)
        for surge in self.simulate(8, miner):
            self.assertClose(surge, 8)

    def test_that_fits_the_room_pays_the_base(self) -> None:
        self.assertEqual(set(self.simulate(15, self.miner(0.9))), {1.0})

    def test_does_not_raise_the_price_above_the_ceiling(self) -> None:
        self.simulate(30, self.miner(1000))
        self.assertEqual(self.pricing.effort, CEILING)


class Crowd(Simulated):
    """Many honest clients, each of whom gives up at some price."""

    def crowd(self, rate: float) -> Callable[[], None]:
        """An actor: so many a second, who would pay 1 to 16 times the base."""
        chance = Random(2).random

        def act() -> None:
            for _ in range(round(rate * TICK)):
                if self.pricing.surge <= 16 ** chance():
                    self.exchange(self.pricing.effort)

        return act

    def test_that_fits_the_room_pays_the_base(self) -> None:
        self.assertEqual(set(self.simulate(8, self.crowd(ROOM * 0.9))), {1.0})

    def test_that_does_not_fit_thins_out_until_it_does(self) -> None:
        crowd = self.crowd(ROOM * 1.5)
        self.simulate(15, crowd)
        self.assertClose(self.share(8, crowd), LOAD)

    def test_leaves_the_base_price_behind(self) -> None:
        self.simulate(15, self.crowd(ROOM * 1.5))
        self.assertGreater(self.pricing.surge, 1.5)
        self.assertBaseSoon()


class Pricings(Pricing):
    """
    A pricing whose surge a test says.

    @ivar closed: periods so far.
    """

    told = 1.0
    closed = 0
    broken = False

    @property
    def surge(self) -> float:
        return self.told

    def reprice(self) -> Period:
        self.closed += 1
        if self.broken:
            raise Exception("whatever it is")
        return Period(4.0, 3.0, 7, 0.0)


class Looking(SynchronousTestCase):
    """When the price is set anew, and what is told of it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.logged = io.StringIO()
        self.chance = 0.5
        self.pricing = Pricings(
            base=BASE,
            floor=1,
            ceiling=CEILING,
            rounds=ROUNDS,
            load=LOAD,
            busy=lambda: 0.0,
            seconds=self.clock.seconds,
        )
        log = make_logger(self.logged, "info", "json")
        self.repricing = Repricing(self.pricing, PERIOD, self.clock, lambda: self.chance, log)
        self.repricing.startService()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.logged.getvalue().splitlines()]

    def told(self, *surges: float) -> list[float]:
        """The surges that are logged of these, one a period."""
        for surge in surges:
            self.pricing.told = surge
            self.clock.advance(PERIOD)
        return [event["surge"] for event in self.events()]

    def looks_after(self, seconds: float) -> None:
        before = self.pricing.closed
        self.clock.advance(seconds - 0.01)
        self.assertEqual(self.pricing.closed, before)
        self.clock.advance(0.01)
        self.assertEqual(self.pricing.closed, before + 1)

    def test_each_period_is_as_long_as_chance_has_it(self) -> None:
        self.chance = 0.0
        self.looks_after(PERIOD)
        self.chance = 1.0
        self.looks_after(PERIOD * 0.75)
        self.chance = 0.5
        self.looks_after(PERIOD * 1.25)
        self.looks_after(PERIOD)

    def test_stops(self) -> None:
        self.clock.advance(PERIOD)
        self.repricing.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_goes_on_after_a_fault(self) -> None:
        self.pricing.broken = True
        self.clock.advance(PERIOD)
        (event,) = self.events()
        self.assertEqual((event["event"], event["level"]), ("repricing_failed", "error"))
        self.assertIn("whatever it is", event["exception"])
        self.pricing.broken = False
        self.looks_after(PERIOD)

    def test_tells_of_a_surge_and_why(self) -> None:
        self.told(2.0)
        (event,) = self.events()
        del event["timestamp"]
        self.assertEqual(
            event,
            {
                "event": "price",
                "level": "info",
                "effort": BASE,
                "surge": 2.0,
                "exchanges": 7,
                "busy": 0.75,
            },
        )

    def test_tells_of_what_doubled_or_halved(self) -> None:
        self.assertEqual(self.told(1.5, 2.2, 4.0, 4.4, 3.0, 2.3, 2.2), [2.2, 4.4, 2.2])

    def test_tells_that_it_is_over(self) -> None:
        self.assertEqual(self.told(2.2, 1.1, 1.0, 1.0), [2.2, 1.1, 1.0])

    def test_does_not_tell_of_small_change(self) -> None:
        self.assertEqual(self.told(*[1.0, 1.9, 1.0, 1.1] * 100), [])

    @given(st.lists(st.floats(1, 64), max_size=50))
    def test_tells_of_a_doubling_at_most_once(self, surges: list[float]) -> None:
        self.setUp()
        told = [1.0, *self.told(*surges)]
        for one, other in pairwise(told):
            self.assertTrue(other == 1.0 or max(one, other) / min(one, other) > 1.98)
