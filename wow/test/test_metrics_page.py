"""The page of all metrics says what the server does."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import wow
from wow.admin.metrics_page import page

PAGE = Path(wow.__file__).parent.parent / "docs" / "metrics.md"


class Page(SynchronousTestCase):
    def test_is_up_to_date(self) -> None:
        self.assertEqual(PAGE.read_text(), page(), "docs/metrics.md is stale: make metrics")

    def test_names_the_values_of_labels(self) -> None:
        self.assertIn("| `type`: request, solution |", page())

    def test_every_metric_has_a_meaning_and_a_value(self) -> None:
        rows = [line for line in page().splitlines() if line.startswith("| `wow_")]
        self.assertGreater(len(rows), 30)
        for row in rows:
            self.assertRegex(
                row, r"^\| `wow_\w+` \| (counter|gauge|histogram) \| [^|]{9,} \| [^|]*\|$"
            )
