"""The server that is attacked: a process of its own, with a look at what it uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import yaml

from bench import usage

_START = 20.0
"""Seconds in which it must have started."""

_STOP = 30.0

# Everything else is as it comes.
_SETTINGS = {
    "WOW_ADMIN__LISTEN": "tcp:0:interface=127.0.0.1",
    "WOW_LOG__FORMAT": "json",
    # Cheap enough for twenty clients a second on a part of a core.
    "WOW_POW__EFFORT": "4096",
    "WOW_POW__ROUNDS": "8",
}


class Process:
    """What a process, with those that it started, uses: nothing, once it has ended."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        with suppress(OSError):
            return usage.cpu(self._pid)
        return 0.0

    def memory(self) -> float:
        """MiB resident that no file stands behind."""
        with suppress(OSError):
            return usage.memory(self._pid) / 2**20
        return 0.0


class Server(Process):
    """
    @ivar port: for clients, on 127.0.0.1.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        super().__init__(process.pid)
        self._process = process
        self._log = log
        self._admin, self.port = self._await_ports()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def metrics(self) -> dict[str, float]:
        """Metrics by name, those without labels; none if it does not answer."""
        try:
            url = f"http://127.0.0.1:{self._admin}/metrics"
            with urllib.request.urlopen(url, timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        lines = (line.split(" ") for line in text.splitlines())
        return {words[0]: float(words[1]) for words in lines if len(words) == 2}

    def log(self) -> dict[str, int]:
        """How many lines there are in the log, by level."""
        levels: dict[str, int] = {}
        for event in self._events():
            level = str(event.get("level", "other"))
            levels[level] = levels.get(level, 0) + 1
        return levels

    def _events(self) -> Iterator[dict[str, object]]:
        for line in self._log.read_text(errors="replace").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                yield {"event": line}

    def _await_ports(self) -> tuple[int, int]:
        end = monotonic() + _START
        while monotonic() < end and self.alive:
            events = list(self._events())
            if any(event["event"] == "started" for event in events):
                ports = [event["port"] for event in events if event["event"] == "listening"]
                return int(str(ports[0])), int(str(ports[-1]))
            sleep(0.05)
        raise RuntimeError(f"the server did not start: {self._log.read_text()[-2000:]}")


@contextmanager
def running(checkout: Path, core: int, environ: Mapping[str, str]) -> Iterator[Server]:
    """
    A server in a directory of its own, with the settings that it comes with.

    @param checkout: where the project is.
    @param core: that it has.
    @param environ: settings beside the usual ones.
    """
    with TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / "twistd"), "-n", "--pidfile=", "wow"],
                cwd=directory,
                env=_environment(checkout, environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            os.sched_setaffinity(process.pid, {core})
            yield Server(process, log)
        finally:
            end(process)


def _environment(checkout: Path, changes: Mapping[str, str]) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("WOW_")},
        "PYTHONPATH": str(checkout.absolute()),
        "WOW_LISTEN": json.dumps([_on_loopback(_default_listen(checkout))]),
        **_SETTINGS,
        **changes,
    }


def _default_listen(checkout: Path) -> str:
    # The file has every default; the length of the queue is one to be kept.
    listen: list[str] = yaml.safe_load((checkout / "etc" / "wow.yaml").read_text())["listen"]
    return listen[0]


def _on_loopback(endpoint: str) -> str:
    kind, _, *rest = endpoint.split(":")
    kept = [option for option in rest if not option.startswith("interface=")]
    return ":".join([kind, "0", "interface=127.0.0.1", *kept])


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and wait until it has."""
    process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
