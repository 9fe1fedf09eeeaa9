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
    try:
        results = _run(options, _take_cores())
    except (Unfit, OSError) as failed:
        sys.exit(str(failed))
    if options.out is not None:
        report.keep(results, options.out)
    print(json.dumps(results, indent=1) if options.json else report.table(results))


def _take_cores() -> int:
    """Keep to the first core, with the load, and leave the servers the last: it is returned."""
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, usable[:1])
    if len(usable) == 1:
        print("The server shares its core with the load: figures mean little.", file=sys.stderr)
    return usable[-1]


def _run(options: argparse.Namespace, core: int) -> Results:
    if options.case != _EVERY_ONE:
        return {options.case: _measure(ALL[options.case], options, core)}
    short = (case for case in ALL.values() if not case.long)
    return {case.name: _measure(case, _defaults(case), core) for case in short}


def _measure(case: Case, options: argparse.Namespace, core: int) -> Result:
    print(f"{case.name}: {case.idea} ...", file=sys.stderr, flush=True)
    return {"machine": machine.describe(), "figures": case.measure(options, core)}


def _defaults(case: Case) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    case.arguments(parser)
    return parser.parse_args([])


if __name__ == "__main__":
    main()
