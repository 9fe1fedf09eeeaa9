"""The benchmarks run, whatever they measure: each case, in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from bench import report, usage
from bench.cases import ALL
from tests.running import PATIENCE

_PROJECT = Path(__file__).parent.parent


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=_PROJECT,
        capture_output=True,
        text=True,
        # The first to need the Go server waits for its library to be compiled.
        timeout=3 * PATIENCE,
        check=False,
    )


class Cases(SynchronousTestCase):
    def measure(self, case: str, *arguments: str) -> dict[str, Any]:
        """The figures of a case, which has made its page as well."""
        docs = Path(self.mktemp()).absolute()
        ended = run("bench", case, "--json", "--out", str(docs), *arguments)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        results = json.loads(ended.stdout)
        self.assertEqual(list(results), [case])
        page = (docs / "performance.md").read_text()
        for row in ALL[case].rows(results[case]["figures"]):
            self.assertIn(f"| {row.what} | {row.measured} |", page)
        self.assertEqual(json.loads((docs / "performance" / "results.json").read_text()), results)
        self.assertEqual(
            (docs / "performance" / f"{case}.png").exists(), ALL[case].draw is not None
        )
        figures: dict[str, Any] = results[case]["figures"]
        return figures

    def test_ratio(self) -> None:
        figures = self.measure("ratio", "--exchanges", "200", "--rounds", "1")
        self.assertEqual(set(figures), {"one connection each", "100 on a connection"})
        for compared in figures.values():
            for other, against in compared["against"].items():
                cost = {name: each["us"] for name, each in compared["cost"].items()}
                self.assertGreater(cost[other], 0)
                self.assertAlmostEqual(against["median"], cost["wow"] / cost[other])

    def test_idle(self) -> None:
        figures = self.measure("idle", "--connections", "100", "--settle", "0.1")
        self.assertEqual(figures["connections"], 100)
        self.assertEqual(set(figures["kib_each"]), {"silent", "served"})

    def test_startup(self) -> None:
        figures = self.measure("startup", "--times", "2")
        seconds = figures["seconds"]
        self.assertLess(0, seconds["least"])
        self.assertLessEqual(seconds["least"], seconds["most"])

    def test_rates(self) -> None:
        figures = self.measure("rates", "--rates", "100", "200", "--seconds", "0.5")
        self.assertEqual(list(figures), ["100", "200"])
        for outcomes in figures.values():
            self.assertEqual(set(outcomes), {"wow", "bare", "raw", "go"})
            for outcome in outcomes.values():
                self.assertEqual(outcome["refused"], {})
                times = list(outcome["latency_us"].values())
                self.assertEqual(times, sorted(times))

    def test_soak(self) -> None:
        figures = self.measure("soak", "--exchanges", "400", "--samples", "8", "--ttl", "60")
        self.assertEqual((figures["exchanges"], figures["refused"]), (400, 0))
        spent = [sample["spent"] for sample in figures["samples"]]
        self.assertEqual((len(spent), spent), (8, sorted(spent)))


class Refusals(SynchronousTestCase):
    def test_have_a_cost_on_either_side(self) -> None:
        ended = run("bench.refusals", "--count", "32")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertRegex(ended.stdout, r"(?m)^turned away +\d+\.\d us +\d+\.\d us$")


class Workers(SynchronousTestCase):
    def test_are_compared_by_what_they_would_serve_on_cores_of_their_own(self) -> None:
        figures = {
            "workers": 2,
            "cost": {"one": {"us": 80.0}, "several": {"us": 84.0}},
            "against": {"median": 1.05, "least": 1.0, "most": 1.25},
        }
        results = {"workers": {"machine": "", "figures": figures}}
        self.assertRegex(report.table(results), r"1\.90 times one +1\.60 to 2\.00 +>= 1\.8 .*yes")


class Table(SynchronousTestCase):
    def test_says_which_targets_are_met(self) -> None:
        figures = {"seconds": {"median": 0.5, "least": 0.4, "most": 1.2}}
        results = {"startup": {"machine": "", "figures": figures}}
        self.assertRegex(report.table(results), r"0\.50 s +0\.40 to 1\.20 +< 1 s +yes")
        figures["seconds"]["median"] = 1.1
        self.assertRegex(report.table(results), r"1\.10 s +0\.40 to 1\.20 +< 1 s +NO")

    def test_keeps_what_was_measured_before(self) -> None:
        docs = Path(self.mktemp())
        figures = {"seconds": {"median": 0.5, "least": 0.4, "most": 0.6}}
        report.keep({"startup": {"machine": "an abacus", "figures": figures}}, docs)
        idle = {"connections": 10, "kib_each": {"silent": 1.5, "served": 13.0}}
        report.keep({"idle": {"machine": "a loom", "figures": idle}}, docs)
        page = (docs / "performance.md").read_text()
        for words in ("an abacus", "a loom", "0.50 s", "| 1.50 KiB |  | <= 12 KiB | yes |"):
            self.assertIn(words, page)
        self.assertIn("| 13.00 KiB |  | <= 12 KiB | NO |", page)


_WORK = """
import sys, threading, time
def burn():
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        pass
thread = threading.Thread(target=burn)
thread.start()
thread.join()
print("done", flush=True)
sys.stdin.read()
"""


class Usage(SynchronousTestCase):
    def begin(self, *command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(process.communicate)
        return process

    def test_counts_threads_that_have_ended(self) -> None:
        process = self.begin(sys.executable, "-c", _WORK)
        assert process.stdout is not None
        process.stdout.readline()
        self.assertGreaterEqual(usage.cpu(process.pid), 0.2)

    def test_counts_the_processes_that_a_process_has_started(self) -> None:
        shell = self.begin("sh", "-c", f"{sys.executable} -c '{_WORK}'; exit")
        assert shell.stdout is not None
        shell.stdout.readline()
        self.assertEqual(len(usage.family(shell.pid)), 2)
        self.assertGreaterEqual(usage.cpu(shell.pid), 0.2)
        alone = usage.memory(usage.family(shell.pid)[1])
        self.assertGreater(usage.memory(shell.pid), alone)

    def test_says_that_there_is_no_such_process(self) -> None:
        process = self.begin("true")
        process.wait()
        self.assertRaises(OSError, usage.cpu, process.pid)
        self.assertRaises(OSError, usage.memory, process.pid)
