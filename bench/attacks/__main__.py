"""C{python -m bench.attacks}: see the package."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

from bench.attacks import report
from bench.attacks.arena import Phases, stage
from bench.attacks.kinds import ALL
from bench.attacks.results import Result, summarize
from bench.sockets import raise_file_limit

_EVERY_ONE = "all"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.attacks",
        description="Attack a server on loopback, with honest clients beside the attack.",
    )
    parser.add_argument("name", nargs="?", choices=[*ALL, _EVERY_ONE], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="say which attacks there are")
    parser.add_argument("--seconds", type=_seconds, help="of the attack; each has its own default")
    parser.add_argument("--before", type=_seconds, default=5.0, help="seconds ahead of it")
    parser.add_argument(
        "--after",
        type=_seconds,
        default=75.0,
        help="seconds behind it, at most; less when all is calm",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--out", type=Path, help="directory for the page, plots and figures (of all: docs)"
    )
    parser.add_argument(
        "--server", type=Path, default=Path(), help="the project whose server it is (default: here)"
    )
    options = parser.parse_args()
    if not (options.name or options.list):
        parser.error("name an attack, or say all or --list")
    if (options.out or options.name == _EVERY_ONE) and find_spec("matplotlib") is None:
        parser.error("the plots need matplotlib: pip install -e '.[bench]', or leave out --out")
    return options


def _seconds(text: str) -> float:
    if not 0 < (seconds := float(text)) < 3600:
        raise argparse.ArgumentTypeError("must be more than 0, and less than an hour")
    return seconds


def _attack(name: str, options: argparse.Namespace) -> Result:
    phases = Phases(options.before, options.seconds, options.after)
    course = stage(ALL[name], phases, options.server)
    result = summarize(course)
    if options.out is not None:
        # Imported here, as it is needed for nothing else.
        from bench.attacks.plot import draw

        draw(course, options.out / "attacks" / f"{name}.png")
        report.keep([result], options.out)
    return result


def main() -> None:
    options = _parse()
    if options.list:
        for attack in ALL.values():
            print(f"{attack.name:20}{attack.idea}")
        return
    raise_file_limit()
    every_one = options.name == _EVERY_ONE
    if every_one and options.out is None:
        options.out = Path("docs")
    results = {}
    for name in ALL if every_one else (options.name,):
        results[name] = _attack(name, options)
        # Of several, each is told of when it is over; JSON is one document.
        if not options.json:
            print(report.table(results[name]), flush=True)
    if options.json:
        json.dump(results, sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    main()
