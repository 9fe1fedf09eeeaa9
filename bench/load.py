"""
Load a server by hand, and see how long exchanges took.

    python -m bench.load 7777                          # as fast as it goes, 32 clients
    python -m bench.load 7777 --rate 2000              # 2000 begin each second, come what may
    python -m bench.load 7777 --per-connection 100 --pid "$(cat wow.pid)" --json

The server must ask one hash a round, as it does when started so:

    WOW_POW__EFFORT=8 WOW_POW__CEILING=8 twistd -n --pidfile=wow.pid wow
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from bench import latency
from bench.cost import Load, measure
from bench.generator import Outcome, Unfit
from bench.sockets import raise_file_limit

Result = dict[str, Any]


def summarize(outcome: Outcome) -> Result:
    """What came of a load, in figures."""
    count = len(outcome.latencies)
    return {
        "served": count,
        "refused": dict(outcome.refused),
        "seconds": round(outcome.seconds, 3),
        "per_second": round(count / outcome.seconds, 1),
        "latency_us": latency.percentiles(outcome.latencies),
        "lateness_us": latency.percentiles(outcome.lateness, latency.SHOWN),
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.load",
        description="Load a server on loopback, and see how long exchanges took.",
        epilog="The server must ask one hash a round: start it with WOW_POW__EFFORT=8 "
        "WOW_POW__CEILING=8, and its other limits where they should be.",
    )
    parser.add_argument("port", type=whole, help="where it listens, on 127.0.0.1")
    parser.add_argument(
        "--rate",
        type=above_zero,
        help="exchanges that begin in a second, whatever becomes of them, and from when they "
        "should have are timed (default: each client's begins when its last is over)",
    )
    parser.add_argument(
        "--exchanges", type=whole, help="in all (default: 20000, or five seconds of the rate)"
    )
    parser.add_argument(
        "--per-connection", type=whole, default=1, help="exchanges on a connection (default: 1)"
    )
    parser.add_argument(
        "--connections",
        type=whole,
        help="exchanges at a time, each on a connection (default: 32; of a rate, 1000 at most)",
    )
    parser.add_argument("--pid", type=whole, help="the server's process, to tell its CPU")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--plot", type=Path, help="draw how long exchanges took into this file")
    options = parser.parse_args()
    if options.pid and not Path(f"/proc/{options.pid}").exists():
        parser.error(f"there is no process {options.pid}")
    if options.exchanges is None:
        options.exchanges = 20_000 if options.rate is None else max(1, round(5 * options.rate))
    if options.connections is None:
        options.connections = 32 if options.rate is None else 1000
    return options


def whole(text: str) -> int:
    """A whole number, 1 or more."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


def above_zero(text: str) -> float:
    """A number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return number


def main() -> None:
    options = _parse()
    raise_file_limit()
    wanted = Load(options.exchanges, options.per_connection, options.connections, options.rate)
    try:
        # Without a process to look at, its own is as good as any.
        outcome, cost = measure(wanted, options.port, options.pid or os.getpid())
    except Unfit as unfit:
        sys.exit(str(unfit))
    result = summarize(outcome)
    if options.pid:
        result["server"] = {"us_per_exchange": round(cost.us, 2), "busy": round(cost.busy, 3)}
    if options.plot is not None:
        # Imported here, as it is needed for nothing else.
        from bench.plot import draw_latencies

        title = f"{result['per_second']:,.0f} exchanges a second"
        draw_latencies({title: {"served": result["latency_us"]}}, options.plot)
    print(json.dumps(result, indent=1) if options.json else _table(result))


def _table(result: Result) -> str:
    rows = [
        ("served", f"{result['served']} in {result['seconds']} s: {result['per_second']} a second"),
        ("latency", _shown(result["latency_us"])),
        ("begun late", _shown(result["lateness_us"])),
    ]
    if result["refused"]:
        rows.append(("refused", ", ".join(f"{c} {n}" for c, n in result["refused"].items())))
    if "server" in result:
        server = result["server"]
        text = f"{server['us_per_exchange']} us an exchange, {server['busy']:.0%} of a core"
        rows.append(("server's CPU", text))
    return "\n".join(f"{name:14}{text}" for name, text in rows)


def _shown(microseconds: dict[str, int]) -> str:
    shown = (f"{each:g}" for each in latency.SHOWN)
    return ", ".join(f"{each} % in {microseconds[each] / 1000:g} ms" for each in shown)


if __name__ == "__main__":
    main()
