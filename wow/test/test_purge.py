"""The spent store is opened, purged once a second in small batches, and closed."""

from __future__ import annotations

import io

from prometheus_client import Gauge
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.logs import make_logger
from wow.pow.purge import Purge
from wow.pow.spent import MemorySpentStore

NOW = 1_700_000_000_000
SKEW = 5_000


class Store(MemorySpentStore):
    """Notes what is done to it, and has as many batches to purge as a test says."""

    batches = 0
    broken = False
    slow: Deferred[bool] | None = None

    def __init__(self) -> None:
        super().__init__(lambda: NOW, 60_000)
        self.purged: list[int] = []
        self.closed = False

    def purge(self, before_ms: int) -> Deferred[bool]:  # type: ignore[override]
        self.purged.append(before_ms)
        if self.broken:
            raise ZeroDivisionError
        self.batches -= 1
        return self.slow or succeed(self.batches > 0)

    def close(self) -> None:
        self.closed = True


class Purging(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = Store()
        self.logged = io.StringIO()
        self.entries = Gauge("entries", "Entries.", registry=None)
        self.usable = Gauge("usable", "Usable.", registry=None)
        log = make_logger(self.logged, "info", "json")
        self.purge = Purge(
            self.store, SKEW, lambda: NOW, self.clock, log, self.entries, self.usable
        )
        self.purge.startService()

    def test_opened_and_purged_at_once(self) -> None:
        self.assertEqual(self.store.mark, NOW + 60_000)
        self.assertEqual(self.store.purged, [NOW - SKEW])

    def test_once_a_second(self) -> None:
        self.clock.pump([0.5] * 10)
        self.assertEqual(len(self.store.purged), 6)

    def test_batches_follow_one_another_with_a_pause(self) -> None:
        self.store.batches = 11
        self.clock.advance(1)
        self.assertEqual(len(self.store.purged), 2)
        self.clock.pump([0.01] * 20)
        self.assertEqual(len(self.store.purged), 12)

    def test_fault_is_logged_and_it_goes_on(self) -> None:
        self.store.broken = True
        self.clock.pump([1] * 3)
        self.assertEqual(len(self.store.purged), 4)
        self.assertEqual(self.logged.getvalue().count("ZeroDivisionError"), 3 * 2)

    def test_gauges(self) -> None:
        self.store.spend(NOW + 60_001, bytes(16))
        self.store.trouble = "full"
        self.clock.advance(1)
        self.assertEqual(self.entries._value.get(), 1)
        self.assertEqual(self.usable._value.get(), 0)

    def test_one_purge_at_a_time(self) -> None:
        self.store.slow = Deferred()
        self.clock.pump([1] * 10)
        self.assertEqual(len(self.store.purged), 2)
        self.store.slow.callback(False)
        self.clock.advance(1)
        self.assertEqual(len(self.store.purged), 3)

    def test_closed_during_a_purge(self) -> None:
        self.store.slow = Deferred()
        self.clock.advance(1)
        self.purge.stopService()
        self.store.slow.callback(True)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closed_at_the_end(self) -> None:
        self.purge.stopService()
        self.assertTrue(self.store.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
