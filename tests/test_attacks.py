"""The attacks run, and honest clients are served beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.running import PATIENCE

# Seconds: long enough for exchanges in each phase.
_SHORT = ("--before", "2", "--seconds", "2", "--after", "2")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.attacks", *arguments],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Attacks(SynchronousTestCase):
    def attack(self, name: str) -> dict[str, Any]:
        """What came of a short attack."""
        ended = run(name, *_SHORT, "--json")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        results = json.loads(ended.stdout)
        self.assertEqual(list(results), [name])
        result: dict[str, Any] = results[name]
        return result

    def test_are_listed(self) -> None:
        ended = run("--list")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertIn("slowloris", ended.stdout)

    def test_say_what_became_of_everyone(self) -> None:
        result = self.attack("bad-frames")
        for phase in ("before", "attack", "after"):
            self.assertGreater(result["honest"][phase]["exchanges"], 0)
        served = [result["honest"][phase]["served_percent"] for phase in ("before", "attack")]
        self.assertEqual(served[0], 100)
        self.assertGreater(served[1], 0)
        self.assertGreater(result["honest"]["attack"]["wait_ms"]["p50"], 0)
        self.assertGreater(result["price"]["base_hashes"], 0)
        self.assertGreater(result["server"]["memory_mib"]["peak"], 0)
        self.assertTrue(result["server"]["survived"])
        self.assertGreater(result["attacker"]["got"]["malformed"], 0)

    def test_get_one_quote_for_a_token_at_most(self) -> None:
        result = self.attack("replay-race")
        self.assertGreater(result["attacker"]["got"]["replayed"], 0)
        self.assertEqual(result["attacker"]["told"]["most quotes for a token"], 1)
