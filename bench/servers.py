"""
The servers that are compared: wow, the bare loop, and the same in Go.

Each runs in a process, or several, of its own, pinned to a core.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from bench import usage

Cores = set[int]
Starter = Callable[..., AbstractContextManager["Server"]]

_HERE = Path(__file__).parent

_SETTINGS = {
    "WOW_LISTEN": '["tcp:0:interface=127.0.0.1"]',
    "WOW_ADMIN__LISTEN": "tcp:0:interface=127.0.0.1",
    "WOW_POW__EFFORT": "8",
    "WOW_POW__ROUNDS": "8",
    # All limits are in force, above what the load asks of them.
    "WOW_LIMITS__CONNECTION_RATE": "1000000",
    "WOW_LIMITS__CONNECTION_BURST": "1000000",
    "WOW_LIMITS__CHALLENGE_RATE": "1000000",
    "WOW_LIMITS__CHALLENGE_BURST": "1000000",
    "WOW_LOG__FORMAT": "json",
}


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

    def cpu(self) -> float:
        """Seconds of CPU used so far, by all of its processes."""
        return usage.cpu(self.pid)

    def memory(self) -> int:
        """Bytes resident that no file stands behind, of all of its processes."""
        return usage.memory(self.pid)


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
def wow(cores: Cores, **environ: str) -> Iterator[Server]:
    """
    This server, all of it, with the limits out of the way.

    @param environ: settings beside the usual ones.
    """
    twistd = str(Path(sys.executable).parent / "twistd")
    command = [twistd, "--nodaemon", "--pidfile=", "wow"]
    with (
        TemporaryDirectory() as directory,
        _started(command, directory, cores, {**_SETTINGS, **environ}) as (pid, output),
    ):
        ports = _await_ports(output)
        yield Server(pid, ports[-1], ports[0])


def _await_ports(output: IO[str]) -> list[int]:
    ports = []
    for line in output:
        event = json.loads(line)
        if event["event"] == "listening":
            ports.append(int(event["port"]))
        if event["event"] == "started":
            return ports
    raise RuntimeError("wow did not start; what it said stands above")


@contextmanager
def bare(cores: Cores) -> Iterator[Server]:
    """The least that could do the work, with Twisted."""
    with TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "bench.bare", directory]
        with _started(command, directory, cores, {}) as (pid, output):
            yield Server(pid, int(output.readline()))


@contextmanager
def go(cores: Cores) -> Iterator[Server]:
    """The same protocol in plain Go."""
    with TemporaryDirectory() as directory:
        built = build_go(Path(directory))
        with _started([str(built)], directory, cores, {}) as (pid, output):
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


ALL: dict[str, Starter] = {"wow": wow, "bare": bare, "go": go}
