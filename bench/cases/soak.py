"""
Whether memory grows with the number of exchanges: as many as a busy hour has, one after the other.

What counts is how many there are, so they are made as fast as the server
takes them. Challenges live for so short a time that most of them are purged
from the spent store on the way.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

from bench import latency, servers
from bench.arguments import above_zero, whole
from bench.cases.case import Case, Result, Row, at_most
from bench.cost import Load, measure
from bench.servers import Server

_AN_HOUR = 500 * 3600
"""Exchanges: five hundred a second, more than most servers see."""

_PER_CONNECTION = 10
_TARGET = 1.0


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--exchanges",
        type=whole,
        metavar="N",
        default=_AN_HOUR,
        help="in all (default: %(default)s)",
    )
    parser.add_argument(
        "--samples",
        type=whole,
        metavar="N",
        default=120,
        help="looks at the memory (default: %(default)s)",
    )
    parser.add_argument(
        "--ttl",
        type=above_zero,
        metavar="N",
        default=20.0,
        help="life of a challenge, seconds (default: %(default)s)",
    )


def _measure(options: Namespace, core: int) -> Result:
    load = Load(max(1, options.exchanges // options.samples), _PER_CONNECTION)
    with servers.wow({core}, WOW_POW__TTL=str(options.ttl)) as server:
        began = monotonic()
        samples = [_look(server, load) for _ in range(options.samples)]
        took = monotonic() - began
    return {
        "exchanges": load.exchanges * options.samples,
        "seconds": took,
        "ttl_seconds": options.ttl,
        "refused": sum(sample["refused"] for sample in samples),
        "growth_percent": _growth([sample["mib"] for sample in samples]),
        "samples": samples,
    }


def _look(server: Server, load: Load) -> Result:
    outcome, cost = measure(load, server.port, server.pid)
    return {
        "mib": server.memory() / 2**20,
        "spent": server.metrics()["wow_spent_entries"],
        "us": cost.us,
        "ms_p99": latency.percentiles(outcome.latencies, [99])["99"] / 1000,
        "refused": sum(outcome.refused.values()),
    }


def _growth(readings: Sequence[float]) -> float:
    """By how many percent the most of the last quarter is above the most of the third."""
    quarter = max(1, len(readings) // 4)
    third, last = readings[-2 * quarter : -quarter], readings[-quarter:]
    return 100 * (max(last) / max(third or last) - 1)


def _rows(result: Result) -> Iterator[Row]:
    samples = result["samples"]
    memory = [sample["mib"] for sample in samples]
    after = f"after {result['exchanges']:,} exchanges"
    yield at_most(
        f"memory {after}: its most in the last quarter, above that in the third",
        result["growth_percent"],
        _TARGET,
        " %",
    )
    yield Row(f"refused {after}", str(result["refused"]), "", "0", result["refused"] == 0)
    yield Row(
        f"memory {after}: first, most, last",
        f"{memory[0]:.1f}, {max(memory):.1f}, {memory[-1]:.1f} MiB",
    )
    spent = [sample["spent"] for sample in samples]
    yield Row(f"remembered as spent {after}: most, last", f"{max(spent):,.0f}, {spent[-1]:,.0f}")


def _draw(result: Result, path: Path) -> None:
    from bench.plot import draw_course

    samples = result["samples"]
    step = result["exchanges"] / len(samples) / 1e6
    draw_course(
        [step * (1 + index) for index in range(len(samples))],
        {
            "memory, MiB": [sample["mib"] for sample in samples],
            "spent challenges remembered": [sample["spent"] for sample in samples],
            "CPU per exchange, us": [sample["us"] for sample in samples],
        },
        path,
    )


CASE = Case(
    "soak",
    "memory over as many exchanges as a busy hour has",
    _arguments,
    _measure,
    _rows,
    _draw,
    long=True,
)
