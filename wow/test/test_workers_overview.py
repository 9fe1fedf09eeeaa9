"""What an operator sees of many workers: all of them, and what is wrong with any."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from wow.workers.control import Report
from wow.workers.overview import Overview
from wow.workers.supervisor import Supervisor


def report(**reasons: str) -> Report:
    health = {"ready": not reasons, "reasons": reasons, "quotes": {"fresh": 7}}
    return Report(1, not reasons, health, [])


class Workers:
    """
    Those who are asked.

    @ivar asked: the answers that are waited for.
    @ivar metrics: whether they were asked for these.
    """

    running = True

    def __init__(self) -> None:
        self.asked: list[Deferred[list[Report | None]]] = []
        self.metrics: list[bool] = []

    def ask(self, metrics: bool, within: float) -> Deferred[list[Report | None]]:
        assert within == 1
        self.metrics.append(metrics)
        self.asked.append(Deferred())
        return self.asked[-1]


class Health(SynchronousTestCase):
    def setUp(self) -> None:
        self.workers = Workers()
        self.overview = Overview(cast(Supervisor, self.workers))

    def reported(self, *reports: Report | None) -> tuple[bool, dict[str, Any]]:
        refreshed = self.overview.refresh(metrics=False)
        self.workers.asked[-1].callback(list(reports))
        self.successResultOf(refreshed)
        return self.overview.report()

    def test_all_are_well(self) -> None:
        ready, seen = self.reported(report(), report())
        self.assertTrue(ready)
        self.assertEqual((seen["ready"], seen["reasons"]), (True, {}))
        self.assertEqual([each["quotes"] for each in seen["workers"]], [{"fresh": 7}] * 2)

    def test_one_is_not(self) -> None:
        ready, seen = self.reported(report(), report(spent="full"))
        self.assertEqual((ready, seen["reasons"]), (False, {"spent": "full"}))

    def test_one_does_not_answer(self) -> None:
        ready, seen = self.reported(report(), None)
        self.assertEqual((ready, seen["reasons"]), (False, {"workers": "1 of 2 answer"}))
        self.assertIsNone(seen["workers"][1])

    def test_at_the_end(self) -> None:
        self.workers.running = False
        ready, seen = self.reported(None, None)
        self.assertEqual((ready, seen["reasons"]), (False, {"gate": "shutting down"}))

    def test_before_anybody_was_asked(self) -> None:
        self.assertFalse(self.overview.report()[0])

    def test_those_who_ask_at_the_same_time_are_told_the_same(self) -> None:
        refreshed = [self.overview.refresh(metrics=True) for _ in range(3)]
        (asked,) = self.workers.asked
        self.assertNoResult(refreshed[2])
        asked.callback([report()])
        for each in refreshed:
            self.successResultOf(each)
        self.overview.refresh(metrics=True)
        self.assertEqual(len(self.workers.asked), 2)

    def test_metrics_are_asked_for_where_they_are_shown(self) -> None:
        health = self.overview.refresh(metrics=False)
        metrics = self.overview.refresh(metrics=True)
        self.assertEqual(self.workers.metrics, [False, True])
        self.workers.asked[1].callback([report()])
        self.successResultOf(metrics)
        self.assertNoResult(health)
