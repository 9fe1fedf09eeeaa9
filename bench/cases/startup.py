"""How long it takes from running C{twistd wow} until the server says that it is ready."""

from __future__ import annotations

import statistics
import urllib.error
import urllib.request
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

from bench import servers
from bench.arguments import whole
from bench.cases.case import Case, Result, Row

_TARGET = 1.0


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--times",
        type=whole,
        metavar="N",
        default=7,
        help="that it is started (default: %(default)s)",
    )


def _measure(options: Namespace, core: int) -> Result:
    # The first time may have to compile.
    first, *seconds = [_start(core) for _ in range(1 + options.times)]
    return {
        "first_seconds": first,
        "seconds": {
            "median": statistics.median(seconds),
            "least": min(seconds),
            "most": max(seconds),
        },
    }


def _start(core: int) -> float:
    began = monotonic()
    with servers.starting_wow({core}) as (_, log):
        admin = servers.admin_port(log)
        while not _ready(admin):
            pass
        return monotonic() - began


def _ready(admin: int) -> bool:
    with suppress(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{admin}/health/ready").close()
        return True
    return False


def _rows(result: Result) -> Iterator[Row]:
    seconds = result["seconds"]
    yield Row(
        "start-up to ready",
        f"{seconds['median']:.2f} s",
        f"{seconds['least']:.2f} to {seconds['most']:.2f}",
        f"< {_TARGET:g} s",
        seconds["median"] < _TARGET,
    )


CASE = Case("startup", "time from the command to ready", _arguments, _measure, _rows)
