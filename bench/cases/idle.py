"""
What an idle connection takes of a worker's memory.

Connections are held that have said nothing yet, and then the same when each
has had an exchange. Memory is what no file stands behind, read when it has
not moved for a while, since the server gives memory back now and then. The
kernel's part of a connection is not in it.
"""

from __future__ import annotations

import socket
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

from bench import servers, talk
from bench.arguments import above_zero, whole
from bench.cases.case import Case, Result, Row, at_most
from bench.cost import Load
from bench.generator import Unfit
from bench.servers import Server
from bench.settling import settled
from bench.sockets import addresses, need_files

_TARGET = 12.0
_SPARE_FILES = 200
_WARM_UP = 2000
"""Exchanges, so that what is made once is there before the first reading."""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--connections",
        type=whole,
        metavar="N",
        default=10_000,
        help="held open (default: %(default)s)",
    )
    parser.add_argument(
        "--settle",
        type=above_zero,
        metavar="N",
        default=25.0,
        help="seconds for which memory must not have moved; the server trims it each ten "
        "(default: %(default)s)",
    )


def _measure(options: Namespace, core: int) -> Result:
    count: int = options.connections
    need_files(count + _SPARE_FILES)
    with servers.wow({core}, **_environ(count)) as server, ExitStack() as held:
        Load(_WARM_UP).put_on(server.port)
        before = settled(server.memory, options.settle)
        crowd = [held.enter_context(_connect(server, source)) for source in _sources(count)]
        silent = settled(server.memory, options.settle)
        for connection in crowd:
            talk.hand_in(connection, talk.ask(connection))
        served = settled(server.memory, options.settle)
        _check(server, count)
    return {
        "connections": count,
        "bytes_before": before,
        "kib_each": {
            "silent": (silent - before) / count / 1024,
            "served": (served - before) / count / 1024,
        },
    }


def _environ(connections: int) -> dict[str, str]:
    room = str(2 * connections)
    return {
        "WOW_LIMITS__CONNECTIONS": room,
        "WOW_LIMITS__HALF_BEGUN": room,
        "WOW_LIMITS__IDLE": "3600",
        "WOW_LIMITS__LIFETIME": "7200",
    }


def _sources(count: int) -> Iterator[str]:
    return islice(addresses(), count)


def _connect(server: Server, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), source_address=(source, 0))


def _check(server: Server, count: int) -> None:
    held = server.metrics()["wow_connections"]
    if held != count:
        raise Unfit(f"the server holds {held:.0f} connections instead of {count}")


def _rows(result: Result) -> Iterator[Row]:
    held, each = f"{result['connections']:,} held", result["kib_each"]
    yield at_most(
        f"memory of an idle connection, silent so far; {held}", each["silent"], _TARGET, " KiB"
    )
    yield at_most(
        f"memory of an idle connection after an exchange; {held}", each["served"], _TARGET, " KiB"
    )


CASE = Case(
    "idle",
    "memory of an idle connection, ten thousand of them in one worker",
    _arguments,
    _measure,
    _rows,
)
