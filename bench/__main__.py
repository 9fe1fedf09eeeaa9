"""C{python -m bench}: measure, and compare with the targets. See the package."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from bench import machine, report
from bench.cases import ALL
from bench.cases.case import Case, Result
from bench.generator import Unfit
from bench.report import Results
from bench.servers import NotStarted

_EVERY_ONE = "all"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure what wow costs, and compare it with its targets.",
        epilog="python -m bench CASE --help says what a case can be told.",
    )
    cases = parser.add_subparsers(dest="case", required=True, metavar="CASE")
    for case in ALL.values():
        chosen = cases.add_parser(case.name, help=case.idea, description=case.idea)
        case.arguments(chosen)
        _common(chosen)
    every_one = cases.add_parser(_EVERY_ONE, help="one after the other, but for soak")
    _common(every_one)
    return parser.parse_args()


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--out", type=Path, help="directory for the page, pictures and figures (such as docs)"
    )


def main() -> None:
    options = _parse()
    core = _take_cores()
    results: Results = {}
    failed = False
    for case, told in _wanted(options):
        try:
            results[case.name] = _measure(case, told, core)
        except (NotStarted, Unfit, OSError) as why:
            # What was measured before it is not lost by that, nor what comes after.
            print(f"{case.name}: {why}", file=sys.stderr)
            failed = True
    if options.out is not None:
        report.keep(results, options.out)
    print(json.dumps(results, indent=1) if options.json else report.table(results))
    sys.exit(failed)


def _wanted(options: argparse.Namespace) -> list[tuple[Case, argparse.Namespace]]:
    """The cases to measure, and what each is told."""
    if options.case != _EVERY_ONE:
        return [(ALL[options.case], options)]
    return [(case, _defaults(case)) for case in ALL.values() if not case.long]


def _take_cores() -> int:
    """Keep to the first core, with the load, and leave the servers the last: it is returned."""
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, usable[:1])
    if len(usable) == 1:
        print("The server shares its core with the load: figures mean little.", file=sys.stderr)
    return usable[-1]


def _measure(case: Case, options: argparse.Namespace, core: int) -> Result:
    print(f"{case.name}: {case.idea} ...", file=sys.stderr, flush=True)
    return {"machine": machine.describe(), "figures": case.measure(options, core)}


def _defaults(case: Case) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    case.arguments(parser)
    return parser.parse_args([])


if __name__ == "__main__":
    main()
