"""The benchmark runs, whatever it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.running import PATIENCE


class Ratio(SynchronousTestCase):
    def test_prints_what_each_costs_and_the_ratios(self) -> None:
        command = [sys.executable, "-m", "bench.ratio", "--exchanges", "200", "--rounds", "1"]
        ended = subprocess.run(
            [*command, "--json"],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        results = json.loads(ended.stdout)
        self.assertEqual(set(results), {"one connection each", "100 on a connection"})
        for result in results.values():
            for other, against in result["against"].items():
                ratio = result["us"]["wow"] / result["us"][other]
                self.assertAlmostEqual(against["ratio"], ratio)
