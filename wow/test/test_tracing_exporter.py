"""Spans go out in batches, and wait in bounds; a collector that fails costs spans alone."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from opentelemetry.sdk.trace import ReadableSpan
from prometheus_client import Counter
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wow.http.errors import HttpFailed
from wow.logs import make_logger
from wow.metrics import Tally
from wow.tracing.exporter import BATCH, MOST_WAITING, PERIOD, Exporter

FAREWELL = 2.0
REST = 10.0
SPAN = ReadableSpan("test")


class FakeCollector:
    """
    Takes spans when a test says so.

    @ivar batches: how many spans were handed over each time.
    @ivar out: what was not answered yet.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.out: list[Deferred[int]] = []

    def take(self, spans: Sequence[ReadableSpan]) -> Deferred[int]:
        self.batches.append(len(spans))
        self.out.append(Deferred(lambda taken: taken.errback(HttpFailed("cancelled"))))
        return self.out[-1]

    def accept(self, rejected: int = 0) -> None:
        self.out.pop(0).callback(rejected)

    def refuse(self) -> None:
        self.out.pop(0).errback(HttpFailed("no"))


class Exports:
    """An exporter with all that it needs."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.logged = io.StringIO()
        self.collector = FakeCollector()
        self.counts = {
            outcome: Tally(Counter(outcome, "Spans.", registry=None))
            for outcome in ("exported", "rejected", "failed", "dropped")
        }
        collector: Any = self.collector
        self.exporter = Exporter(
            collector,
            self.clock,
            lambda failures: REST * (failures + 1),
            FAREWELL,
            self.counts,
            make_logger(self.logged, "info", "json"),
        )

    def end(self, number: int) -> None:
        """So many spans are over."""
        for _ in range(number):
            self.exporter.on_end(SPAN)

    def count(self, outcome: str) -> int:
        return self.counts[outcome].count

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.logged.getvalue().splitlines()]


class Running(SynchronousTestCase):
    """An exporter that was started."""

    def setUp(self) -> None:
        self.made = Exports()
        self.collector, self.clock = self.made.collector, self.made.clock
        self.made.exporter.startService()

    def stop(self) -> Deferred[None]:
        return self.made.exporter.stopService()


class Exporting(Running):
    def test_nothing_to_do(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(self.stop())

    def test_spans_wait_for_others(self) -> None:
        self.made.end(1)
        self.clock.advance(PERIOD / 2)
        self.made.end(2)
        self.assertEqual(self.collector.batches, [])
        self.clock.advance(PERIOD / 2)
        self.assertEqual(self.collector.batches, [3])
        self.collector.accept()
        self.assertEqual(self.made.count("exported"), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_batch_that_is_full_waits_no_longer(self) -> None:
        self.made.end(BATCH)
        self.clock.advance(0)
        self.assertEqual(self.collector.batches, [BATCH])

    def test_one_batch_at_a_time(self) -> None:
        self.made.end(2 * BATCH + 1)
        self.clock.advance(0)
        self.clock.advance(PERIOD)
        self.assertEqual(self.collector.batches, [BATCH])
        self.collector.accept()
        self.clock.advance(0)
        self.assertEqual(self.collector.batches, [BATCH, BATCH])
        self.collector.accept()
        self.clock.advance(PERIOD)
        self.assertEqual(self.collector.batches, [BATCH, BATCH, 1])

    def test_each_batch_in_a_turn_of_its_own(self) -> None:
        """Encoding takes time, which others want too."""
        self.made.end(2 * BATCH)
        self.clock.advance(0)
        self.collector.accept()
        self.assertEqual(self.collector.batches, [BATCH])

    def test_bound(self) -> None:
        self.made.end(BATCH)
        self.clock.advance(0)
        self.made.end(MOST_WAITING + 5)
        self.assertEqual(self.made.count("dropped"), 5)

    def test_rejected(self) -> None:
        self.made.end(5)
        self.clock.advance(PERIOD)
        self.collector.accept(rejected=2)
        self.assertEqual((self.made.count("exported"), self.made.count("rejected")), (3, 2))

    def test_failure(self) -> None:
        self.made.end(5)
        self.clock.advance(PERIOD)
        self.collector.refuse()
        self.assertEqual((self.made.count("exported"), self.made.count("failed")), (0, 5))

    def test_rests_longer_after_each_failure(self) -> None:
        # However many wait meanwhile.
        self.made.end(5 * BATCH)
        self.clock.advance(0)
        for failures in (1, 2, 3):
            self.collector.refuse()
            self.clock.advance(REST * failures - 0.1)
            self.assertEqual(len(self.collector.batches), failures)
            self.clock.advance(0.1)
            self.assertEqual(len(self.collector.batches), failures + 1)

    def test_rests_though_nothing_waits(self) -> None:
        self.made.end(1)
        self.clock.advance(PERIOD)
        self.collector.refuse()
        self.made.end(BATCH)
        self.clock.advance(REST - 0.1)
        self.assertEqual(len(self.collector.batches), 1)
        self.clock.advance(0.1)
        self.assertEqual(len(self.collector.batches), 2)

    def test_outage_is_told_once(self) -> None:
        self.made.end(3 * BATCH)
        self.clock.advance(0)
        self.collector.refuse()
        self.clock.advance(REST)
        self.collector.refuse()
        self.clock.advance(2 * REST)
        self.collector.accept()
        self.assertEqual(self.made.events(), ["spans_not_exported", "spans_exported_again"])

    def test_good_again(self) -> None:
        self.test_outage_is_told_once()
        self.made.end(BATCH)
        self.clock.advance(0)
        self.assertEqual(self.collector.batches, [BATCH] * 4)

    def test_fault_of_ours(self) -> None:
        self.made.end(1)
        self.clock.advance(PERIOD)
        self.collector.out.pop().errback(Failure(ZeroDivisionError()))
        self.assertEqual(self.made.events(), ["internal_error"])
        self.assertEqual(self.made.count("failed"), 1)


class Stopping(Running):
    def test_what_is_left_goes_out(self) -> None:
        self.made.end(BATCH + 1)
        stopped = self.stop()
        self.collector.accept()
        self.assertNoResult(stopped)
        self.collector.accept()
        self.successResultOf(stopped)
        self.assertEqual(self.collector.batches, [BATCH, 1])
        self.assertEqual(self.made.count("exported"), BATCH + 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_after_what_is_under_way(self) -> None:
        self.made.end(BATCH + 1)
        self.clock.advance(0)
        stopped = self.stop()
        self.assertEqual(self.collector.batches, [BATCH])
        self.collector.accept()
        self.assertEqual(self.collector.batches, [BATCH, 1])
        self.collector.accept()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_longer_than_it_may_take(self) -> None:
        self.made.end(3 * BATCH)
        stopped = self.stop()
        self.collector.accept()
        self.clock.advance(FAREWELL)
        self.successResultOf(stopped)
        counts = [self.made.count(outcome) for outcome in ("exported", "failed", "dropped")]
        self.assertEqual(counts, [BATCH] * 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_under_way_not_longer_either(self) -> None:
        self.made.end(2 * BATCH)
        self.clock.advance(0)
        stopped = self.stop()
        self.clock.advance(FAREWELL)
        self.successResultOf(stopped)
        counts = [self.made.count(outcome) for outcome in ("exported", "failed", "dropped")]
        self.assertEqual(counts, [0, BATCH, BATCH])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure_is_the_end(self) -> None:
        self.made.end(3 * BATCH)
        stopped = self.stop()
        self.collector.refuse()
        self.successResultOf(stopped)
        self.assertEqual(self.collector.batches, [BATCH])
        self.assertEqual(self.made.count("dropped"), 2 * BATCH)

    def test_what_comes_later_is_dropped(self) -> None:
        self.successResultOf(self.stop())
        self.made.end(1)
        self.assertEqual(self.made.count("dropped"), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AnyCourse(RuleBasedStateMachine):
    """Every span is accounted for, one batch is out at a time, and waiting ones have a timer."""

    def __init__(self) -> None:
        super().__init__()
        self.made = Exports()
        self.made.exporter.startService()
        self.ended = 0

    @rule()
    def one(self) -> None:
        self.made.end(1)
        self.ended += 1

    @rule()
    def many(self) -> None:
        self.made.end(MOST_WAITING // 3)
        self.ended += MOST_WAITING // 3

    @rule()
    def wait(self) -> None:
        self.made.clock.advance(PERIOD)

    @rule()
    def wait_long(self) -> None:
        self.made.clock.advance(REST * 5)

    @precondition(lambda self: self.made.collector.out)
    @rule()
    def accept(self) -> None:
        self.made.collector.accept()

    @precondition(lambda self: self.made.collector.out)
    @rule()
    def refuse(self) -> None:
        self.made.collector.refuse()

    @invariant()
    def holds(self) -> None:
        waiting = len(self.made.exporter._waiting)
        out = self.made.collector.batches[-1] if self.made.collector.out else 0
        counted = sum(self.made.count(outcome) for outcome in self.made.counts)
        assert counted + waiting + out == self.ended
        assert waiting <= MOST_WAITING
        assert len(self.made.collector.out) <= 1
        assert bool(self.made.clock.getDelayedCalls()) == bool(
            waiting and not self.made.collector.out
        )

    def teardown(self) -> None:
        stopped = self.made.exporter.stopService()
        while self.made.collector.out:
            self.made.collector.accept()
        assert stopped.called
        assert not self.made.clock.getDelayedCalls()
        assert sum(self.made.count(outcome) for outcome in self.made.counts) == self.ended


class AnyCourseTests(SynchronousTestCase):
    def test_any_course(self) -> None:
        run_state_machine_as_test(AnyCourse, settings=settings(deadline=None))
