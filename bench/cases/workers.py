"""
What several worker processes cost, against one.

How much two workers serve on two cores cannot be measured where the load
needs one of them. But while each worker has enough to do, they serve as much
as their CPU per exchange leaves room for; so that is what is compared. They
share a core where there are no two to spare.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict

from bench import servers, usage
from bench.arguments import whole
from bench.cases.case import Case, Result, Row
from bench.cases.ratio import by_turns, ratio, typical
from bench.generator import Unfit
from bench.servers import Server

_WORKERS = 2
_TARGET = 1.8


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--exchanges",
        type=whole,
        metavar="N",
        default=4000,
        help="in each turn (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=whole,
        metavar="N",
        default=7,
        help="turns of each server (default: %(default)s)",
    )


def _measure(options: Namespace, core: int) -> Result:
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(servers.wow({core}, WOW_WORKERS=str(count)))
            for name, count in (("one", 1), ("several", _WORKERS))
        }
        _check(running["several"])
        costs = by_turns(running, options.exchanges, options.rounds, per_connection=1)
    return {
        "workers": _WORKERS,
        "cost": {name: asdict(typical(each)) for name, each in costs.items()},
        "against": ratio(costs["several"], costs["one"]),
    }


def _check(server: Server) -> None:
    # A parent, and its workers.
    if len(usage.family(server.pid)) <= _WORKERS:
        raise Unfit(f"the server did not start {_WORKERS} workers, as WOW_WORKERS asks")


def _rows(result: Result) -> Iterator[Row]:
    workers, cost, against = result["workers"], result["cost"], result["against"]
    yield Row("CPU per exchange, one worker", f"{cost['one']['us']:.1f} us")
    yield Row(f"CPU per exchange, {workers} workers", f"{cost['several']['us']:.1f} us")
    served = workers / against["median"]
    yield Row(
        f"what {workers} workers serve on as many cores, by that",
        f"{served:.2f} times one",
        f"{workers / against['most']:.2f} to {workers / against['least']:.2f}",
        f">= {_TARGET:g} times",
        served >= _TARGET,
    )


CASE = Case(
    "workers",
    "CPU per exchange of two workers, against one",
    _arguments,
    _measure,
    _rows,
)
