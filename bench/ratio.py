"""
What being a service costs: CPU per exchange of wow, as a multiple of a bare loop's.

Both serve the same exchanges on the same core, by turns, while the load comes
from another core. CPU time, user and system, is the kernel's account of the
server's process. The ratio is the median over the rounds, and its range is
shown, since machines are noisy.

    python -m bench.ratio [--exchanges N] [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.load import exchanges

TARGET = 1.5
CASES = {"one connection each": 1, "100 on a connection": 100}

_CONFIGURATION = {
    "WOW_LISTEN": '["tcp:0:interface=127.0.0.1:backlog=1024"]',
    "WOW_ADMIN__LISTEN": "tcp:0:interface=127.0.0.1",
    "WOW_POW__EFFORT": "8",
    "WOW_POW__ROUNDS": "8",
    # All limits are in force, above what the load asks of them.
    "WOW_LIMITS__CONNECTION_RATE": "1000000",
    "WOW_LIMITS__CONNECTION_BURST": "1000000",
    "WOW_LIMITS__CHALLENGE_RATE": "1000000",
    "WOW_LIMITS__CHALLENGE_BURST": "1000000",
    "WOW_LOG__FORMAT": "json",
}


class Running:
    """A server pinned to a core."""

    def __init__(self, process: subprocess.Popen[str], port: int, core: int) -> None:
        self.port = port
        self._pid = process.pid
        os.sched_setaffinity(process.pid, {core})

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        on_cpu, _, _ = Path(f"/proc/{self._pid}/schedstat").read_text().split()
        return int(on_cpu) / 1e9


@contextmanager
def started(command: list[str], directory: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environ},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def bare(core: int) -> Iterator[Running]:
    with (
        TemporaryDirectory() as directory,
        started([sys.executable, "-m", "bench.bare", directory], directory) as process,
    ):
        assert process.stdout is not None
        yield Running(process, int(process.stdout.readline()), core)


@contextmanager
def wow(core: int, **environ: str) -> Iterator[Running]:
    twistd = str(Path(sys.executable).parent / "twistd")
    command = [twistd, "--nodaemon", "--pidfile=", "wow"]
    with (
        TemporaryDirectory() as directory,
        started(command, directory, **{**_CONFIGURATION, **environ}) as process,
    ):
        assert process.stdout is not None
        port = 0
        for line in process.stdout:
            event = json.loads(line)
            port = event["port"] if event["event"] == "listening" else port
            if event["event"] == "started":
                break
        yield Running(process, port, core)


def measure(server: Running, count: int, per_connection: int) -> float:
    """Microseconds of the server's CPU for an exchange."""
    before = server.cpu()
    exchanges(server.port, count, per_connection)
    return (server.cpu() - before) / count * 1e6


def compare(servers: dict[str, Running], count: int, rounds: int) -> dict[str, dict[str, float]]:
    results = {}
    for case, per_connection in CASES.items():
        costs: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, server in servers.items():
                costs[name].append(measure(server, count, per_connection))
        ratios = [wow / bare for wow, bare in zip(costs["wow"], costs["bare"], strict=True)]
        results[case] = {
            "bare_us": statistics.median(costs["bare"]),
            "wow_us": statistics.median(costs["wow"]),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "target": TARGET,
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU per exchange of wow against a bare loop.")
    parser.add_argument("--exchanges", type=int, default=4000, help="in each turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each server")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    with ExitStack() as stack:
        servers = {
            "bare": stack.enter_context(bare(cores[-1])),
            "wow": stack.enter_context(wow(cores[-1])),
        }
        for server in servers.values():
            exchanges(server.port, 1000, 1)
        results = compare(servers, options.exchanges, options.rounds)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{'':22}{'bare':>10}{'wow':>10}{'ratio':>8}{'range':>16}{'target':>10}")
    for case, result in results.items():
        spread = f"{result['ratio_min']:.2f} to {result['ratio_max']:.2f}"
        print(
            f"{case:22}{result['bare_us']:>7.1f} us{result['wow_us']:>7.1f} us"
            f"{result['ratio']:>8.2f}{spread:>16}{'<= ' + str(TARGET):>10}"
        )


if __name__ == "__main__":
    main()
