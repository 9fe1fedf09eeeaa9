"""A real server in a process of its own, and a client of plain sockets to talk to it."""

from __future__ import annotations

import base64
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

PATIENCE = 60.0
"""Seconds after which what a test waits for counts as never coming."""

TWISTD = str(Path(sys.executable).parent / "twistd")

Message = dict[str, Any]

CHEAP = {"WOW_POW__EFFORT": "64", "WOW_POW__ROUNDS": "4"}
"""A price that a test pays in no time."""


class Server:
    """
    C{twistd wow} with its log read as it is written.

    @ivar address: where clients connect.
    @ivar admin: where operators do.
    @ivar events: every log line so far.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        listening: socket.socket | None = None,
        **environ: str,
    ) -> None:
        """
        Start it, and wait until it listens.

        @param directory: where it runs and keeps its store.
        @param listening: a socket to hand to it, as systemd does.
        @param environ: variables beside those of a test server.
        """
        self.events: list[Message] = []
        self._arrived: queue.Queue[Message | None] = queue.Queue()
        directory.mkdir(exist_ok=True)
        command = [TWISTD, "-n", "--pidfile=", "wow", *arguments]
        if listening is not None:
            environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "wow"}
            command = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env=test_environment(environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=partial(_prepare_process, listening),
            pass_fds=() if listening is None else (_FIRST_HANDED,),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_for("started")
        except BaseException:
            self.stop()
            raise
        doors = [event for event in self.events if event["event"] == "listening"]
        self.admin = ("127.0.0.1", int(doors[0]["port"]))
        # A Unix socket has no port.
        self.address = ("127.0.0.1", int(doors[-1]["port"] or 0))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self._arrived.put(json.loads(line))
            except ValueError:
                self._arrived.put({"event": line.rstrip("\n")})
        self._arrived.put(None)

    def wait_for(self, name: str, **fields: Any) -> Message:
        """Wait for a log line, or find one that has come."""
        for event in self.events:
            if event["event"] == name and fields.items() <= event.items():
                return event
        while True:
            event = self._next()
            if event["event"] == name and fields.items() <= event.items():
                return event

    def seen(self, name: str, **fields: Any) -> list[Message]:
        """The log lines that have come by now, without waiting for any."""
        while not self._arrived.empty():
            self._next()
        return [e for e in self.events if e["event"] == name and fields.items() <= e.items()]

    def _next(self) -> Message:
        event = self._arrived.get(timeout=PATIENCE)
        if event is None:
            raise AssertionError(f"the server ended; its log: {self.events}")
        self.events.append(event)
        return event

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end, and give the exit status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while (event := self._arrived.get(timeout=PATIENCE)) is not None:
            self.events.append(event)
        return status

    def stop(self) -> int:
        """End it as an operator would."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE)
        finally:
            # Whatever became of it, nothing is left running.
            self.process.kill()
            self._reader.join(PATIENCE)
            assert self.process.stdout is not None
            self.process.stdout.close()
        return status

    def connect(self, source: str = "127.0.0.1") -> Client:
        return Client(self.address, source)

    def page(self, path: str) -> tuple[int, str]:
        """The status and the body of a page of the operators' site."""
        url = f"http://{self.admin[0]}:{self.admin[1]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, line: str) -> float:
        """The value of a metric with its labels, as C{/metrics} writes it."""
        for found in self.page("/metrics")[1].splitlines():
            name, _, value = found.rpartition(" ")
            if name == line:
                return float(value)
        raise AssertionError(f"there is no metric {line}")


class Client:
    """The client's side of the protocol over a blocking socket."""

    def __init__(self, address: tuple[str, int], source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(address, PATIENCE, (source, 0))

    def send(self, *messages: Message) -> None:
        bodies = [json.dumps(message).encode() for message in messages]
        self.socket.sendall(b"".join(len(body).to_bytes(4, "big") + body for body in bodies))

    def hear(self) -> Message | None:
        """The next message, or None once the server has closed."""
        length = self._read(4)
        if not length:
            return None
        body = self._read(int.from_bytes(length, "big"))
        return dict(json.loads(body))

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                more = self.socket.recv(length - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                if data:
                    raise AssertionError(f"the server closed within a frame: {data!r}")
                break
            data += more
        return data

    def say(self, message: Message) -> Message:
        """Send one message, and hear one."""
        self.send(message)
        answer = self.hear()
        assert answer is not None, "the server closed without a word"
        return answer

    def challenge(self) -> Message:
        challenge = self.say({"type": "request"})
        assert challenge["type"] == "challenge", challenge
        return challenge

    def solution(self) -> Message:
        """Ask for a challenge, and solve it."""
        return solve(self.challenge())

    def quote(self) -> Message:
        """One whole exchange."""
        return self.say(self.solution())

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Running(SynchronousTestCase):
    """A server in a folder of its own, stopped at the end."""

    def start(self, directory: Path | None = None, *arguments: str, **options: Any) -> Server:
        server = Server(directory or Path(self.mktemp()), *arguments, **options)
        self.addCleanup(server.stop)
        return server

    def key_file(self) -> str:
        path = Path(self.mktemp()).absolute()
        path.write_bytes(base64.b64encode(os.urandom(32)))
        path.chmod(0o600)
        return str(path)

    def connect(self, server: Server, source: str = "127.0.0.1") -> Client:
        client = server.connect(source)
        self.addCleanup(client.close)
        return client


def solve(challenge: Message) -> Message:
    """A solution message for a challenge message, found by trying one nonce after the other."""
    nonces = []
    for index in range(challenge["rounds"]):
        nonce = 0
        while not _solves(challenge, index, nonce):
            nonce += 1
        nonces.append(nonce)
    return {"type": "solution", "challenge": challenge["challenge"], "nonces": nonces}


def _solves(challenge: Message, index: int, nonce: int) -> bool:
    digest = sha256(f"{challenge['challenge']}:{index}:{nonce}".encode()).hexdigest()
    return digest[:16] <= str(challenge["target"])


def test_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with no wow in it but what makes a test server."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("WOW_")},
        **CHEAP,
        "WOW_LISTEN": '["tcp:0:interface=127.0.0.1"]',
        "WOW_ADMIN__LISTEN": "tcp:0:interface=127.0.0.1",
        "WOW_LOG__FORMAT": "json",
        "WOW_LIMITS__CLIENT_CONNECTIONS": "10000",
        "WOW_LIMITS__CONNECTION_BURST": "10000",
        "WOW_LIMITS__CHALLENGE_BURST": "10000",
        "WOW_LIMITS__FAILURE_BURST": "10000",
        **changes,
    }


def run_twistd(
    directory: Path, environ: Mapping[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """
    Run twistd to its end, or to the end of its foreground.

    @param environ: the whole environment.
    @return: its status and all that it said.
    """
    return subprocess.run(
        [TWISTD, *arguments],
        cwd=directory,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


_FIRST_HANDED = 3
"""The first descriptor that systemd hands on."""


def _prepare_process(listening: socket.socket | None) -> None:
    heed_interrupts()
    if listening is not None:
        os.dup2(listening.fileno(), _FIRST_HANDED)


def heed_interrupts() -> None:
    """Undo what a shell does to what it runs in the background: to have it ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, looking again and again."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("what was waited for never came")
