"""Clients are served from memory; the pool is filled behind their back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import structlog
from attrs import asdict
from prometheus_client import CollectorRegistry, Counter, Gauge
from structlog.testing import LogCapture
from structlog.typing import FilteringBoundLogger
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from wow import errors
from wow.breaker import Breaker
from wow.metrics import Tallies
from wow.pow.resource import IProtectedResource
from wow.quotes.interfaces import IQuoteSource, SourceFailed
from wow.quotes.service import QuoteService, Supply
from wow.wire import Quote


@implementer(IQuoteSource)
class Scripted:
    """A source that does as it is told, and counts how often it is asked."""

    def __init__(self, name: str, fetch: Callable[[], Deferred[list[Quote]]]) -> None:
        self.name = name
        self.answer = fetch
        self.asked = 0

    def fetch(self) -> Deferred[list[Quote]]:
        self.asked += 1
        return self.answer()


def broken() -> Deferred[list[Quote]]:
    return fail(SourceFailed("no luck"))


class Case(SynchronousTestCase):
    """A service with sources that are told what to do."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        served = Counter("served", "", ["source"], registry=self.registry)
        self.tallies = Tallies(self.registry)
        self.served = lambda source: self.tallies(served.labels(source))
        self.pooled = Gauge("pooled", "", registry=self.registry)
        self.fetches = Counter("fetches", "", ["source", "outcome"], registry=self.registry)
        self.capture = LogCapture()
        self.numbers = iter(range(1_000_000))

    def gives(self, name: str, count: int) -> Callable[[], Deferred[list[Quote]]]:
        """A fetch that gives that many quotes, none of them twice."""
        return lambda: succeed([Quote(str(next(self.numbers)), "", name) for _ in range(count)])

    def build(self, *sources: Scripted, pool: int = 10, interval: float = 0.0) -> QuoteService:
        supplies = [
            Supply(source, Breaker(self.clock, lambda: 0.0, interval, 3, 60.0))
            for source in sources
        ]
        log = structlog.wrap_logger(
            None,
            processors=[self.capture],
            wrapper_class=structlog.make_filtering_bound_logger("debug"),
        )
        self.service = QuoteService(
            supplies,
            pool,
            self.clock,
            cast(FilteringBoundLogger, log.bind()),
            self.served,
            self.pooled,
            self.fetches,
        )
        return self.service

    def start(self, *sources: Scripted, pool: int = 10, interval: float = 0.0) -> QuoteService:
        service = self.build(*sources, pool=pool, interval=interval)
        service.startService()
        self.addCleanup(self.stop)
        return service

    def stop(self) -> None:
        if self.service.running:
            self.successResultOf(self.service.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def take(self, count: int = 1) -> list[str]:
        quotes = [self.service.prepare(b"client") for _ in range(count)]
        return [quote.text for quote in quotes]

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in entry.items() if key != "event"}
            for entry in self.capture.entries
            if entry["event"] == event
        ]


class Serving(Case):
    """A quote is there at once or not at all."""

    def test_interface(self) -> None:
        """It is what is behind the gate."""
        verifyObject(IProtectedResource, self.build())

    def test_full_at_the_start(self) -> None:
        """A source that answers at once has filled the pool when the service has started."""
        self.start(Scripted("a", self.gives("a", 50)))
        self.assertEqual(self.service.status().fresh, 10)

    def test_quote(self) -> None:
        """A client gets a quote, with its source."""
        self.start(Scripted("a", self.gives("a", 50)))
        quote = self.service.prepare(b"client")
        self.assertEqual(quote, Quote("0", "", "a"))

    def test_never_had_one(self) -> None:
        """Without any quote a client is refused at once, and told when to come again."""
        self.start(Scripted("a", Deferred))
        unavailable = self.assertRaises(errors.Unavailable, self.service.prepare, b"")
        self.assertEqual(unavailable.retry_after, 1.0)

    def test_retry_after(self) -> None:
        """That is when the next source may be asked."""
        self.start(Scripted("a", broken))
        for _ in range(5):
            self.clock.advance(1)
        unavailable = self.assertRaises(errors.Unavailable, self.service.prepare, b"")
        # Asked at 0, 1 and 3 seconds, and then resting for 60.
        self.assertEqual(unavailable.retry_after, 58.0)

    def test_no_sources(self) -> None:
        """A service without sources is no bug, only of no use."""
        self.start()
        self.assertRaises(errors.Unavailable, self.service.prepare, b"")

    def test_fresh_first_then_again(self) -> None:
        """Quotes not served yet come first; then those served come again, in rotation."""
        source = Scripted("a", self.gives("a", 3))
        self.start(source)
        source.answer = broken
        self.assertEqual(self.take(8), ["0", "1", "2", "0", "1", "2", "0", "1"])

    def test_fresh_after_repeats(self) -> None:
        """When there are fresh ones again, these come first."""
        source = Scripted("a", self.gives("a", 2))
        self.start(source, interval=5.0)
        self.assertEqual(self.take(3), ["0", "1", "0"])
        self.clock.pump([1] * 6)
        self.assertEqual(self.take(3), ["2", "3", "1"])

    def test_bounds(self) -> None:
        """However much is given and taken, no more is kept than the pool's size, twice."""
        source = Scripted("a", self.gives("a", 500))
        self.start(source)
        for _ in range(300):
            self.take()
            status = self.service.status()
            self.assertLessEqual(max(status.fresh, status.served), 10)
        source.answer = broken
        self.take(10)
        self.assertEqual(len(set(self.take(100))), 10)

    def test_pool_of_one(self) -> None:
        """The smallest pool works as well."""
        self.start(Scripted("a", self.gives("a", 5)), pool=1)
        self.assertEqual(self.take(3), ["0", "5", "10"])

    def test_ready(self) -> None:
        """It is ready once it has had a quote, and stays so."""
        first: Deferred[list[Quote]] = Deferred()
        source = Scripted("a", lambda: first)
        self.start(source)
        self.assertFalse(self.service.ready)
        self.assertEqual(self.service.trouble, "no source has had a quote yet")
        first.callback([Quote("one", "", "a")])
        source.answer = broken
        for _ in range(3):
            self.assertTrue(self.service.ready)
            self.assertIs(self.service.trouble, None)
            self.take()

    def test_counts(self) -> None:
        """Quotes are counted by source, fresh or not, and the fresh ones shown."""
        source = Scripted("a", self.gives("a", 4))
        self.start(source)
        self.assertEqual(self.sample("pooled"), 4)
        source.answer = broken
        self.take(3)
        self.assertEqual(self.sample("pooled"), 1)
        self.take(3)
        self.assertEqual(self.sample("pooled"), 0)
        self.assertEqual(self.sample("served_total", source="a"), 6)


class Refilling(Case):
    """Sources are asked in order, one at a time, and only as it is good for them."""

    def test_below_half(self) -> None:
        """A pass starts when less than half is left, and not before."""
        source = Scripted("a", self.gives("a", 50))
        self.start(source)
        self.take(5)
        self.clock.advance(1)
        self.assertEqual((source.asked, self.service.status().fresh), (1, 5))
        self.take(1)
        self.assertEqual((source.asked, self.service.status().fresh), (2, 10))

    def test_one_at_a_time(self) -> None:
        """While a source is being asked, nobody is asked."""
        source, other = Scripted("a", Deferred), Scripted("b", self.gives("b", 5))
        self.start(source, other)
        self.take(5)
        self.clock.pump([1] * 10)
        self.take(5)
        self.assertEqual((source.asked, other.asked), (1, 1))

    def test_cold_start(self) -> None:
        """While the first source takes its time, clients live from the last."""
        first: Deferred[list[Quote]] = Deferred()
        self.start(Scripted("a", lambda: first), Scripted("b", self.gives("b", 10)))
        self.assertEqual((self.service.lives_from, len(self.take(20))), ("b", 20))
        first.callback([Quote("better", "", "a")])
        self.assertEqual((self.service.lives_from, self.take(1)), ("a", ["better"]))

    def test_cold_start_from_one_source(self) -> None:
        """The only source is the last, and is asked once."""
        source = Scripted("a", Deferred)
        self.start(source)
        self.clock.pump([1] * 10)
        self.assertRaises(errors.Unavailable, self.service.prepare, b"")
        self.assertEqual(source.asked, 1)

    def test_no_waiting(self) -> None:
        """While a source is being asked, clients get what there is."""
        source = Scripted("a", self.gives("a", 5))
        self.start(source)
        source.answer = Deferred
        self.take(20)

    def test_order(self) -> None:
        """The first source that gives ends the pass. At the start, the last comes first."""
        sources = [
            Scripted("a", broken),
            Scripted("b", self.gives("b", 50)),
            Scripted("c", self.gives("c", 50)),
        ]
        self.start(*sources)
        self.assertEqual([source.asked for source in sources], [1, 1, 1])
        self.take(6)
        self.assertEqual([source.asked for source in sources], [1, 2, 1])
        self.assertEqual(self.service.lives_from, "b")

    def test_late_answer(self) -> None:
        """A source may take its time; the next is asked when it has failed."""
        first: Deferred[list[Quote]] = Deferred()
        self.start(
            Scripted("a", lambda: first), Scripted("b", self.gives("b", 50)), Scripted("c", broken)
        )
        self.assertIs(self.service.lives_from, None)
        first.errback(SourceFailed("late"))
        self.assertEqual(self.service.lives_from, "b")

    def test_crowd_does_not_ask(self) -> None:
        """While the only source is down, it is asked by the clock and not for each client."""
        source = Scripted("a", self.gives("a", 10))
        self.start(source)
        source.answer = broken
        self.take(1000)
        self.assertEqual(source.asked, 2)

    def test_failing_source_is_skipped(self) -> None:
        """A source that failed is passed over until its rest is over."""
        first, second = Scripted("a", broken), Scripted("b", self.gives("b", 10))
        self.start(first, second)
        self.take(6)
        self.assertEqual((first.asked, second.asked), (1, 2))
        self.clock.advance(1)
        self.take(6)
        self.assertEqual((first.asked, second.asked), (2, 3))

    def test_pace(self) -> None:
        """A source that gave keeps its pace, and no lesser source is asked meanwhile."""
        first, second = Scripted("a", self.gives("a", 3)), Scripted("b", self.gives("b", 10))
        self.start(first, second, interval=10.0)
        self.take(5)
        self.clock.pump([1] * 9)
        self.take(5)
        self.assertEqual((first.asked, second.asked), (1, 1))
        self.clock.pump([1] * 2)
        self.assertEqual((first.asked, second.asked), (2, 1))

    def test_recovers_by_itself(self) -> None:
        """Without any client, the pool fills once a source is back."""
        source = Scripted("a", broken)
        self.start(source)
        self.clock.pump([1] * 4)
        source.answer = self.gives("a", 50)
        self.clock.pump([1] * 70)
        self.assertEqual(self.service.status().fresh, 10)

    def test_breaker(self) -> None:
        """A source that keeps failing is left alone but for a trial now and then."""
        source = Scripted("a", broken)
        self.start(source)
        self.clock.pump([1] * 6)
        self.assertEqual(source.asked, 3)
        self.clock.pump([1] * 600)
        self.assertEqual(source.asked, 13)

    def test_source_with_a_bug(self) -> None:
        """A source that breaks its promise counts as failed; no other suffers."""

        def bug() -> Deferred[list[Quote]]:
            raise ZeroDivisionError("secret")

        for answer in (bug, lambda: fail(ZeroDivisionError("secret"))):
            self.start(Scripted("a", answer), Scripted("b", self.gives("b", 10)))
            self.assertEqual(self.service.lives_from, "b")
            self.assertEqual(self.service.status().sources[0].last_error, "ZeroDivisionError")
            self.stop()

    def test_source_that_gives_nonsense(self) -> None:
        """What breaks a pass is in the log, and the next pass is made all the same."""
        source = Scripted("a", lambda: succeed(cast(list[Quote], 1)))
        self.start(source)
        self.assertEqual(len(self.lines("quotes_refill_broke")), 1)
        source.answer = self.gives("a", 10)
        self.clock.advance(1)
        self.assertEqual(self.service.status().fresh, 10)

    def test_counts(self) -> None:
        """Attempts are counted by source and outcome."""
        self.start(Scripted("a", broken), Scripted("b", self.gives("b", 10)))
        self.take(6)
        self.assertEqual(self.sample("fetches_total", source="a", outcome="failed"), 1)
        self.assertEqual(self.sample("fetches_total", source="b", outcome="ok"), 2)


class Stopping(Case):
    """A service that has stopped leaves nothing behind."""

    def test_stops_asking(self) -> None:
        """The attempt under way is cancelled, counts for nothing, and no other is asked."""
        cancelled: list[object] = []
        first = Scripted("a", lambda: Deferred(cancelled.append))
        second = Scripted("b", self.gives("b", 10))
        self.start(first, second)
        self.successResultOf(self.service.stopService())
        self.assertEqual((len(cancelled), second.asked), (1, 1))
        self.assertEqual(self.service.status().sources[0].last_error, None)
        self.assertEqual(self.lines("quotes_source_failed"), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waits(self) -> None:
        """Where cancelling takes time, so does stopping."""
        closing: Deferred[list[Quote]] = Deferred()
        attempt = succeed(None).addCallback(lambda _: Deferred(lambda d: d.callback(None)))
        attempt.addCallback(lambda _: closing)
        self.start(Scripted("a", lambda: cast("Deferred[list[Quote]]", attempt)))
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        closing.errback(SourceFailed("closed"))
        self.successResultOf(stopped)

    def test_serves_what_is_left(self) -> None:
        """While the server drains, the pool is served, and not filled."""
        source = Scripted("a", self.gives("a", 50))
        self.start(source)
        self.stop()
        self.take(20)
        self.assertEqual(source.asked, 1)

    def test_never_started(self) -> None:
        """Stopping what was never started is nothing."""
        self.successResultOf(self.build().stopService())

    def test_again(self) -> None:
        """It can be started again."""
        source = Scripted("a", Deferred)
        self.start(source)
        self.stop()
        source.answer = self.gives("a", 50)
        self.service.startService()
        self.assertEqual(self.service.status().fresh, 10)


class Telling(Case):
    """An operator sees from where the server lives, and why, and is not flooded."""

    def test_status(self) -> None:
        """The status has the pool and each source, in order, and is fit for JSON."""
        self.start(Scripted("a", broken), Scripted("b", self.gives("b", 10)))
        self.take(2)
        self.assertEqual(
            asdict(self.service.status()),
            {
                "lives_from": "b",
                "fresh": 8,
                "served": 2,
                "sources": (
                    {"name": "a", "state": "closed", "last_error": "no luck"},
                    {"name": "b", "state": "closed", "last_error": None},
                ),
            },
        )

    def test_error_is_over(self) -> None:
        """An error is shown until the source gives again."""
        source = Scripted("a", broken)
        self.start(source)
        source.answer = self.gives("a", 10)
        self.clock.pump([1] * 3)
        self.assertEqual(self.service.status().sources[0].last_error, None)

    def test_first_quotes(self) -> None:
        """The first quotes are good news."""
        self.start(Scripted("a", self.gives("a", 10)))
        self.take(50)
        line = {"source": "a", "instead_of": None, "reason": "first quotes", "log_level": "info"}
        self.assertEqual(self.lines("quotes_source_changed"), [line])

    def test_change_for_worse_and_better(self) -> None:
        """One line when it changes to a lesser source, with the reason, and one when back."""
        first, second = Scripted("a", self.gives("a", 10)), Scripted("b", self.gives("b", 10))
        self.start(first, second)
        first.answer = broken
        self.take(50)
        first.answer = self.gives("a", 10)
        self.clock.advance(2)
        self.take(50)
        self.assertEqual(
            self.lines("quotes_source_changed")[2:],
            [
                {"source": "b", "instead_of": "a", "reason": "no luck", "log_level": "warning"},
                {"source": "a", "instead_of": "b", "reason": "preferred", "log_level": "info"},
            ],
        )

    def test_failures(self) -> None:
        """Of a source that is down for long, the first failure and the opening are warnings."""
        self.start(Scripted("a", broken))
        self.clock.pump([1] * 1000)
        lines = self.lines("quotes_source_failed")
        self.assertGreater(len(lines), 10)
        warnings = [line for line in lines if line["log_level"] == "warning"]
        self.assertEqual(
            [(line["source"], line["reason"], line["breaker"]) for line in warnings],
            [("a", "no luck", "closed"), ("a", "no luck", "open")],
        )
        self.assertEqual({line["log_level"] for line in lines}, {"warning", "debug"})
