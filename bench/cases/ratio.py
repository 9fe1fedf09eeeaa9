"""
What an exchange costs wow, against bare loops and the same protocol in Go.

All serve the same exchanges on the same core, by turns, while the load comes
from another core. CPU, user and system, is the kernel's account. A ratio is
the median over the rounds of each round's own.
"""

from __future__ import annotations

import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench import servers
from bench.arguments import whole
from bench.cases.case import Case, Result, Row, at_most
from bench.cost import Cost, Load, cost_of
from bench.servers import Server

TARGETS = {"go": 1.0, "bare": 1.25}
KINDS = {"one connection each": 1, "100 on a connection": 100}

_WARM_UP = 1000
"""Exchanges."""


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
        running = {name: stack.enter_context(start({core})) for name, start in servers.ALL.items()}
        return {
            kind: _compare(by_turns(running, options.exchanges, options.rounds, per_connection))
            for kind, per_connection in KINDS.items()
        }


def by_turns(
    running: Mapping[str, Server], exchanges: int, rounds: int, per_connection: int
) -> dict[str, list[Cost]]:
    """
    Measure servers by turns, so that whatever happens on the machine happens to all.

    @param exchanges: in each turn.
    @return: what they cost each, by turns.
    """
    for server in running.values():
        Load(_WARM_UP, per_connection).put_on(server.port)
    load = Load(exchanges, per_connection)
    costs: dict[str, list[Cost]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, server in running.items():
            costs[name].append(cost_of(load, server.port, server.pid))
    return costs


def _compare(costs: Mapping[str, list[Cost]]) -> Result:
    return {
        "cost": {name: asdict(typical(each)) for name, each in costs.items()},
        "against": {name: ratio(costs["wow"], costs[name]) for name in TARGETS},
    }


def typical(costs: list[Cost]) -> Cost:
    """The median of what was measured."""
    return Cost(
        statistics.median(cost.us for cost in costs), statistics.median(cost.busy for cost in costs)
    )


def ratio(ours: list[Cost], theirs: list[Cost]) -> dict[str, float]:
    """How many times what they cost we do, turn by turn: the median, and the extremes."""
    ratios = [our.us / their.us for our, their in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def _rows(result: Result) -> Iterator[Row]:
    for kind, compared in result.items():
        for name, cost in compared["cost"].items():
            yield Row(f"CPU per exchange, {kind}: {name}", f"{cost['us']:.1f} us")
        for name, target in TARGETS.items():
            yield _against(f"{kind}: wow / {name}", compared["against"][name], target)


def _against(what: str, against: Mapping[str, float], target: float) -> Row:
    spread = f"{against['least']:.2f} to {against['most']:.2f}"
    return at_most(what, against["median"], target, spread=spread)


def _draw(result: Result, path: Path) -> None:
    from bench.plot import draw_costs

    kinds = {
        kind: {name: cost["us"] for name, cost in compared["cost"].items()}
        for kind, compared in result.items()
    }
    draw_costs(kinds, path)


CASE = Case(
    "ratio",
    "CPU per exchange, against a bare loop and a plain Go server",
    _arguments,
    _measure,
    _rows,
    _draw,
)
