"""Ids are random, of 16 bytes, and never given twice."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from wow.pow.random_ids import RandomIds


class Ids(SynchronousTestCase):
    def test_length(self) -> None:
        ids = RandomIds()
        self.assertEqual({len(ids()) for _ in range(200)}, {16})

    def test_none_twice(self) -> None:
        first, second = RandomIds(), RandomIds()
        given = [each for _ in range(1000) for each in (first(), second())]
        self.assertEqual(len(set(given)), 2000)
