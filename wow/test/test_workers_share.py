"""What all workers may do together is what the configuration says."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wow.config import Http, Settings, load
from wow.workers.cores import cores
from wow.workers.share import share

API = '{"type": "http", "name": "a", "url": "http://h/", "text": "t", "author": "a", "interval": 7}'


class Shares(SynchronousTestCase):
    def setUp(self) -> None:
        sources = f'[{API}, {{"type": "collection", "name": "c"}}]'
        self.settings = load(None, {"WOW_QUOTES__SOURCES": sources})

    def shared(self, workers: int) -> Settings:
        return share(self.settings, workers)

    def test_totals_are_divided(self) -> None:
        limits = self.shared(4).limits
        self.assertEqual((limits.connections, limits.half_begun), (2500, 500))
        self.assertEqual((limits.clients, limits.explained), (25_000, 12.5))

    def test_never_to_nothing(self) -> None:
        self.settings = load(None, {"WOW_LIMITS__CONNECTIONS": "3"})
        self.assertEqual(self.shared(4).limits.connections, 1)

    def test_apis_are_asked_no_more_often(self) -> None:
        api, _ = self.shared(4).quotes.sources
        assert isinstance(api, Http)
        self.assertEqual(api.interval, 28)

    def test_all_else_stays(self) -> None:
        one = self.shared(1)
        self.assertEqual(one, self.settings)
        self.assertEqual(self.shared(4).limits.client_connections, 64)


class Cores(SynchronousTestCase):
    def quota(self, text: str) -> Path:
        path = Path(self.mktemp())
        path.write_text(text)
        return path

    def test_as_many_as_there_are(self) -> None:
        self.patch(os, "sched_getaffinity", lambda _: set(range(5)))
        self.assertEqual(cores(self.quota("max 100000\n")), 5)

    def test_as_many_as_there_is_time_of(self) -> None:
        self.patch(os, "sched_getaffinity", lambda _: set(range(5)))
        for text, count in (("150000 100000", 2), ("20000 100000", 1), ("900000 100000", 5)):
            self.assertEqual(cores(self.quota(text)), count, text)

    def test_where_nothing_says_so(self) -> None:
        self.assertGreaterEqual(cores(Path(self.mktemp())), 1)
