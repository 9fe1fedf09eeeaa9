"""
How long exchanges take at fixed rates, on wow, a bare loop and a plain Go server.

An open loop: exchanges begin at their time whatever became of those before,
each on a connection of its own, and are timed from when they should have begun.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import latency, servers
from bench.arguments import above_zero, whole
from bench.cases.case import Case, Result, Row
from bench.cost import Load, measure
from bench.servers import Server

_CONNECTIONS = 1000


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--rates",
        type=whole,
        metavar="N",
        nargs="+",
        default=[1000, 2000, 4000, 8000],
        help="exchanges that begin in a second (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=above_zero,
        metavar="N",
        default=5.0,
        help="of each rate (default: %(default)s)",
    )


def _measure(options: Namespace, core: int) -> Result:
    with ExitStack() as stack:
        running = {name: stack.enter_context(start({core})) for name, start in servers.ALL.items()}
        for server in running.values():
            Load(1000).put_on(server.port)
        return {
            str(rate): {
                name: _at(rate, options.seconds, server) for name, server in running.items()
            }
            for rate in options.rates
        }


def _at(rate: int, seconds: float, server: Server) -> Result:
    load = Load(max(1, round(rate * seconds)), connections=_CONNECTIONS, rate=rate)
    outcome, cost = measure(load, server.port, server.pid)
    return {
        "latency_us": latency.percentiles(outcome.latencies),
        "lateness_us": latency.percentiles(outcome.lateness, latency.SHOWN),
        "refused": dict(outcome.refused),
        "us": cost.us,
        "busy": cost.busy,
    }


def _rows(result: Result) -> Iterator[Row]:
    for rate, outcomes in result.items():
        for name, outcome in outcomes.items():
            times = outcome["latency_us"]
            shown = ", ".join(f"{times[each] / 1000:.2f}" for each in ("50", "99", "99.9"))
            refused = sum(outcome["refused"].values())
            yield Row(
                f"{int(rate):,} exchanges a second, {name}: 50, 99, 99.9 % served within",
                f"{shown} ms" + (f"; {refused} refused" if refused else ""),
            )


def _draw(result: Result, path: Path) -> None:
    from bench.plot import draw_latencies

    panels = {
        f"{int(rate):,} exchanges a second": {
            name: outcome["latency_us"] for name, outcome in outcomes.items()
        }
        for rate, outcomes in result.items()
    }
    draw_latencies(panels, path)


CASE = Case(
    "rates",
    "how long exchanges take at fixed rates, against a bare loop and a plain Go server",
    _arguments,
    _measure,
    _rows,
    _draw,
)
