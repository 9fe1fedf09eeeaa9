"""
What being a service costs: CPU per exchange of wow, against a bare loop's and a Go server's.

All serve the same exchanges on the same core, by turns, while the load comes
from another core. CPU time, user and system, is the kernel's account of the
server's processes. Ratios are medians over the rounds, and their range is
shown, since machines are noisy.

    python -m bench.ratio [--exchanges N] [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from contextlib import ExitStack
from typing import Any

from bench import servers
from bench.load import exchanges
from bench.servers import Server

TARGETS = {"go": 1.0, "bare": 1.25}
CASES = {"one connection each": 1, "100 on a connection": 100}


def measure(server: Server, count: int, per_connection: int) -> tuple[float, float]:
    """
    Have a server serve exchanges.

    @return: microseconds of its CPU for one, and the share of the time that it was busy.
    """
    before, began = server.cpu(), time.monotonic()
    exchanges(server.port, count, per_connection)
    used = server.cpu() - before
    return used / count * 1e6, used / (time.monotonic() - began)


def compare(running: dict[str, Server], count: int, rounds: int) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}
    for case, per_connection in CASES.items():
        costs: dict[str, list[float]] = {name: [] for name in running}
        busy: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(rounds):
            for name, server in running.items():
                cost, share = measure(server, count, per_connection)
                costs[name].append(cost)
                busy[name].append(share)
        results[case] = {
            "us": {name: statistics.median(each) for name, each in costs.items()},
            "busy": {name: statistics.median(each) for name, each in busy.items()},
            "against": {name: _ratio(costs["wow"], costs[name], TARGETS[name]) for name in TARGETS},
        }
    return results


def _ratio(ours: list[float], theirs: list[float], target: float) -> dict[str, float]:
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "min": min(ratios),
        "max": max(ratios),
        "target": target,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU per exchange of wow against others'.")
    parser.add_argument("--exchanges", type=int, default=4000, help="in each turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each server")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(start({cores[-1]})) for name, start in servers.ALL.items()
        }
        for server in running.values():
            exchanges(server.port, 1000, 1)
        results = compare(running, options.exchanges, options.rounds)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for case, result in results.items():
        print(case)
        for name, cost in result["us"].items():
            print(f"  {name:10}{cost:>7.1f} us, busy {result['busy'][name]:.0%}")
        for name, against in result["against"].items():
            print(
                f"  wow/{name:6}{against['ratio']:>7.2f} "
                f"({against['min']:.2f} to {against['max']:.2f}), target <= {against['target']}"
            )


if __name__ == "__main__":
    main()
