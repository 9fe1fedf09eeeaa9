"""The heap is trimmed now and then."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.heap import Heap, find_trim


class Trimming(SynchronousTestCase):
    def test_now_and_then(self) -> None:
        clock, trimmed = Clock(), list[int]()
        heap = Heap(trimmed.append, clock)
        heap.startService()
        clock.pump([10.0] * 3)
        self.assertEqual(trimmed, [0, 0, 0])
        heap.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_whatever_the_c_library(self) -> None:
        find_trim()(0)
