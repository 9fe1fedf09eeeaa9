"""A real HAProxy in front of servers."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp
from unittest import SkipTest

from tests.running import PATIENCE, wait_until

_GLOBAL = """
global
    stats socket unix@stats mode 600 level admin
    maxconn 2000
"""


class HAProxy:
    """
    A balancer of its own configuration.

    @ivar addresses: where clients connect to each of its sections, by name.
    """

    def __init__(self, configuration: str, sections: Iterable[str]) -> None:
        """
        Start it, and wait until it can be asked how it is.

        @param configuration: but for its C{global} section. Where it binds it
            says C{fd@{NAME}}, with the name of one of the sections.
        @raise SkipTest: if there is none on this machine.
        """
        program = _find()
        # Not in trial's folder, whose path is too long for a socket.
        self._directory = Path(mkdtemp(prefix="wow-haproxy-"))
        listening = {name: socket.create_server(("127.0.0.1", 0)) for name in sections}
        self.addresses = {name: each.getsockname() for name, each in listening.items()}
        file = self._directory / "haproxy.cfg"
        descriptors = {name: each.fileno() for name, each in listening.items()}
        file.write_text(_GLOBAL + configuration.format(**descriptors))
        self._process = subprocess.Popen(
            [program, "-db", "-f", str(file)],
            cwd=self._directory,
            pass_fds=list(descriptors.values()),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each in listening.values():
            each.close()
        wait_until(self._answers)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError("HAProxy ended; is its configuration right?")
        return (self._directory / "stats").exists()

    def stop(self) -> None:
        """End it, and all connections that go by way of it."""
        self._process.kill()
        self._process.wait(PATIENCE)
        shutil.rmtree(self._directory)

    def states(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Of each server in each section: whether it is up, and what its probe said."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(PATIENCE)
            asking.connect(str(self._directory / "stats"))
            asking.sendall(b"show stat\n")
            answer = b"".join(iter(lambda: asking.recv(65536), b"")).decode()
        names, *lines = (line.split(",") for line in answer.lstrip("# ").splitlines() if line)
        rows = [dict(zip(names, line, strict=False)) for line in lines]
        return {
            (row["pxname"], row["svname"]): (row["status"], row["check_status"]) for row in rows
        }


def _find() -> str:
    # Debian has it where only root looks.
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SkipTest("THERE IS NO haproxy HERE, so nothing is tried with a real one: install it")
    return found
