"""The spent store is the one that the configuration asks for."""

from __future__ import annotations

import io
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from wow import config
from wow.logs import make_logger
from wow.metrics import Metrics
from wow.pow.spent import ISpentStore
from wow.pow.spent_fallback import FallbackSpentStore
from wow.pow.spent_lmdb import LmdbSpentStore
from wow.pow.spent_redis import RedisSpentStore
from wow.stores import build_spent


class Building(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()
        self.reactor = MemoryReactorClock()

    def build(self, **environ: str) -> ISpentStore:
        settings = config.load(None, environ)
        log = make_logger(io.StringIO(), "info", "json")
        return build_spent(settings, environ, self.reactor, self.metrics, log)

    def metric(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)

    def test_lmdb(self) -> None:
        self.assertIsInstance(self.build(), LmdbSpentStore)
        self.assertEqual(self.metric("wow_spent_max_entries"), 2_000_000)
        self.assertEqual(self.metric("wow_spent_reachable"), 1)

    def test_server(self) -> None:
        store = self.build(WOW_SPENT__URL="redis://192.0.2.1:6380")
        self.assertIsInstance(store, RedisSpentStore)
        self.assertEqual(store.status()["url"], "redis://192.0.2.1:6380")
        self.assertEqual(self.metric("wow_spent_reachable"), 0)
        self.assertEqual(self.metric("wow_spent_connections"), 0)

    def test_server_with_a_stand_in(self) -> None:
        directory = Path(self.mktemp())
        store = self.build(
            WOW_SPENT__URL="redis://192.0.2.1",
            WOW_SPENT__OUTAGE="local",
            WOW_SPENT__DIRECTORY=str(directory),
        )
        self.assertIsInstance(store, FallbackSpentStore)
        self.assertFalse(directory.exists())

    def test_nothing_shows_the_password(self) -> None:
        store = self.build(
            WOW_SPENT__URL="redis://wow@192.0.2.1",
            WOW_SPENT__PASSWORD="env:PASSWORD",
            PASSWORD="s3cret",
        )
        self.assertNotIn("s3cret", repr(store.status()))
