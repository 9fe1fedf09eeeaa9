"""
The C{wow} command: quotes, and what operators need: health, reload, keys, configuration.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wow import __version__
from wow.cli.exits import EXPLAINED, Exit, complain, put

if TYPE_CHECKING:
    from wow.config import Settings
    from wow.pow.solver import ISolver


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    @param argv: the words after C{wow}; by default those of this process.
    @return: the exit code, an L{Exit} or 143.
    @raise SystemExit: for a wrong command line, and after C{--help} and C{--version}.
    """
    if sys.stdout is None:
        # The shell's >&- closed it.
        complain("there is no standard output to write to")
        return Exit.REFUSED
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the terminal's character set lacks is shown as an escape.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(argv)
    try:
        code: int = options.command(options)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return Exit.BROKEN_PIPE
    except OSError as failed:
        complain(f"the output cannot be written: {failed.strerror}")
        _drop_output()
        return Exit.REFUSED
    return code


def _drop_output() -> None:
    # Or the interpreter, at its end, tries once more and complains.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wow",
        description="Words of wisdom, for a little work.",
        epilog=EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"wow {__version__}")

    def help_out(_: argparse.Namespace) -> int:
        parser.print_help(sys.stderr)
        return Exit.USAGE

    parser.set_defaults(command=help_out)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_quote(commands)
    _add_health(commands)
    _add_reload(commands)
    _add_keygen(commands)
    _add_keys(commands)
    _add_config(commands)
    return parser


# wow quote


def _add_quote(commands: Any) -> None:
    quote = commands.add_parser(
        "quote",
        help="ask a server for a quote",
        description="Ask a server for a quote, and do the work that it wants for it.",
        epilog=EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    quote.set_defaults(command=_quote)
    quote.add_argument(
        "endpoint",
        nargs="?",
        default="tcp:127.0.0.1:7777",
        metavar="ENDPOINT",
        help="HOST:PORT, or a client endpoint of Twisted's such as tls:HOST:PORT or unix:/PATH"
        " (default: %(default)s)",
    )
    add = quote.add_argument
    add("--count", type=_whole, default=1, metavar="N", help="quotes over one connection (1)")
    add("--json", action="store_true", help="a JSON object a line, with text, author and source")
    add(
        "--timeout",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="to wait for the connection, and for each quote (120)",
    )
    add("--processes", type=_whole, metavar="N", help="that solve puzzles (one a core)")
    add(
        "--max-effort",
        type=_effort,
        default=2**26,
        metavar="HASHES",
        help="the most work to do for a quote (2^26)",
    )
    add(
        "--traceparent",
        type=_traceparent,
        metavar="CONTEXT",
        help="the W3C trace context that this is a part of, for a server that knows of such",
    )


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:20]) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text[:20])


def _effort(text: str) -> int:
    base, power, exponent = text.replace("**", "^").partition("^")
    if not power:
        return _whole(base)
    if base != "2" or not exponent.isdigit() or int(exponent[:4]) > 64:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of hashes nor 2^0 to 2^64")
    return int(2 ** int(exponent))


def _traceparent(text: str) -> str:
    from wow.wire import TRACEPARENT

    if not re.search(TRACEPARENT, text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a trace context such as 00-{'a1' * 16}-{'b2' * 8}-01"
        )
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds over 0")
    return seconds


def _quote(options: argparse.Namespace) -> int:
    # Twisted takes a while to import, which the other commands need not wait for.
    from twisted.internet import reactor

    from wow.cli import asking
    from wow.client import Limits
    from wow.pow.solver import Solver

    try:
        endpoint = asking.parse_endpoint(reactor, options.endpoint)
    except ValueError as wrong:
        complain(str(wrong))
        return Exit.USAGE
    asker = asking.Asking(
        endpoint=endpoint,
        solver=_shown(Solver(reactor, options.processes), reactor),
        clock=reactor,
        limits=Limits(options.max_effort, options.timeout),
        count=options.count,
        render=asking.render_json if options.json else asking.render,
        traceparent=options.traceparent,
    )
    return asking.run(reactor, asker.run, options.endpoint)


def _shown(solver: ISolver, clock: Any) -> ISolver:
    if not sys.stderr.isatty():
        return solver
    from rich.console import Console

    from wow.cli.progress import VisibleSolver

    console = Console(stderr=True)
    return VisibleSolver(solver, console, clock) if console.is_interactive else solver


# wow health


def _add_health(commands: Any) -> None:
    about = "Ask the operators' site of a server whether it can serve clients."
    health = commands.add_parser("health", help="see whether a server is well", description=about)
    health.set_defaults(command=_health)
    add = health.add_argument
    add(
        "place",
        nargs="?",
        type=_place,
        default=("127.0.0.1", 7778),
        metavar="HOST:PORT",
        help="the operators' site, admin.listen (127.0.0.1:7778)",
    )
    add("--live", action="store_true", help="only whether it lives, which it does while it drains")
    add("--timeout", type=_seconds, default=5.0, metavar="SECONDS", help="to wait for it (5)")


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port[:9]) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _health(options: argparse.Namespace) -> int:
    from wow.cli import health

    page = "live" if options.live else "ready"
    code, outcome = health.ask(options.place, page, options.timeout)
    if code is Exit.DONE:
        put(outcome)
    else:
        complain(outcome)
    return code


# wow reload


def _add_reload(commands: Any) -> None:
    about = "Have a running server read its configuration, keys, lists and certificates again."
    reload = commands.add_parser(
        "reload", help="have a server read its configuration again", description=about
    )
    reload.set_defaults(command=_reload)
    add = reload.add_argument
    add(
        "place",
        nargs="?",
        type=_place,
        default=("127.0.0.1", 7778),
        metavar="HOST:PORT",
        help="the operators' site, admin.listen (127.0.0.1:7778)",
    )
    add("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="to wait for it (60)")
    add(
        "--token",
        type=_secret,
        metavar="WHERE",
        help="admin.token of the server, if it has one: file:PATH, env:NAME or credential:NAME",
    )


def _secret(where: str) -> str:
    """The secret that is there. One on the command line could be read by everybody."""
    from wow.secret import names_secret, reveal

    if not names_secret(where):
        raise argparse.ArgumentTypeError("say where it is: file:PATH, env:NAME or credential:NAME")
    try:
        return reveal(where, os.environ)
    except ValueError as bad:
        raise argparse.ArgumentTypeError(str(bad)) from None


def _reload(options: argparse.Namespace) -> int:
    from wow.cli import reload

    code, outcome = reload.run(options.place, options.timeout, options.token)
    if code is Exit.DONE:
        put(outcome)
    else:
        complain(outcome)
    return code


# wow keygen


def _add_keygen(commands: Any) -> None:
    about = "Make a new random key, in a file of its own that only its owner can read."
    keygen = commands.add_parser("keygen", help="make a key for a server", description=about)
    keygen.set_defaults(command=_keygen)
    keygen.add_argument("file", type=Path, metavar="FILE", help="must not exist yet")


def _keygen(options: argparse.Namespace) -> int:
    from wow.pow import keys

    try:
        _write_new(options.file, keys.encode(keys.generate(datetime.now(UTC))) + "\n")
    except FileExistsError:
        complain(f"{options.file} exists and is not overwritten: name another, or move it away")
        return Exit.REFUSED
    except OSError as failed:
        complain(f"{options.file} cannot be written: {failed.strerror}")
        return Exit.REFUSED
    put(f"A new key is in {options.file}. To use it, set in the configuration:")
    put(f"keys:\n  file: {options.file.absolute()}")
    return Exit.DONE


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123, it is open
            file.write(text)
    except OSError:
        # A disk that is full leaves a piece of a key.
        path.unlink()
        raise


# wow keys


def _add_keys(commands: Any) -> None:
    parser = commands.add_parser(
        "keys",
        help="rotate the keys of a server",
        description="List the keys of a key file, and rotate them. No secret is shown.",
        epilog="A rotation, with a reload of all servers after each step: add; promote; wait; "
        "retire. See docs/operations.md, Rotate keys.",
    )
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, about in (
        ("list", "show the keys: id, role, age"),
        ("add", "make a new key, that signs nothing yet"),
        ("promote", "have another key sign"),
        ("retire", "take a key out, when its challenges have expired"),
    ):
        action = actions.add_parser(name, help=about, description=f"{about.capitalize()}.")
        action.set_defaults(command=_keys, action=name)
        add = action.add_argument
        if name in ("promote", "retire"):
            add("id", metavar="ID", help="of the key, as `wow keys list` has it")
        if name == "retire":
            add("--force", action="store_true", help="even if challenges are lost by it")
        add("--file", type=Path, metavar="FILE", help="the key file")
        add("--config", metavar="FILE", help="the server's, with keys.file and pow.ttl")


def _keys(options: argparse.Namespace) -> int:
    from wow.cli import keys

    return keys.run(options)


# wow config


def _add_config(commands: Any) -> None:
    config = commands.add_parser("config", help="check or show a server's configuration")
    actions = config.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command, about in (
        ("check", _check, "say what is wrong with a configuration"),
        ("show", _show, "show the configuration in force, without its secrets"),
    ):
        action = actions.add_parser(name, help=about, description=f"{about.capitalize()}.")
        action.set_defaults(command=command)
        action.add_argument(
            "--config", metavar="FILE", help="YAML; WOW_... in the environment goes before it"
        )


def _check(options: argparse.Namespace) -> int:
    return _with_settings(options, lambda settings: "ok")


def _show(options: argparse.Namespace) -> int:
    from wow import config

    return _with_settings(options, lambda settings: config.dump(settings).rstrip("\n"))


def _with_settings(options: argparse.Namespace, text: Callable[[Settings], str]) -> int:
    from wow import config

    try:
        settings = config.load(options.config, os.environ)
    except config.ConfigError as wrong:
        for problem in wrong.problems:
            complain(problem)
        return Exit.REFUSED
    put(text(settings))
    return Exit.DONE
