"""The load generator: what it counts and times, and what it says of what it cannot load."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.cost import Load, cost_of
from bench.generator import Unfit
from bench.messages import framed
from tests.running import PATIENCE, Running, Server

CHALLENGE = {
    "type": "challenge",
    "challenge": "AAAA",
    "algorithm": "sha256",
    "rounds": 2,
    "round_effort": 1,
    "target": "f" * 16,
    "expires_in": 60,
}
QUOTE = {"type": "quote", "text": "Know thyself.", "author": "", "source": "test"}


class Peer:
    """A connection of the generator's, as a server has it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")

    def read(self) -> object:
        """The next message; None once there is no more."""
        length = self._stream.read(4)
        return json.loads(self._stream.read(int.from_bytes(length, "big"))) if length else None

    def write(self, message: object) -> None:
        self._connection.sendall(framed(json.dumps(message, separators=(",", ":")).encode()))

    def challenge(self) -> None:
        """Read a request and the solution to the challenge that answers it."""
        self.read()
        self.write(CHALLENGE)
        self.read()

    def hang_up(self) -> None:
        self._stream.close()
        self._connection.close()


class Scripted(SynchronousTestCase):
    """Servers that do what a test wants, to see what the generator makes of it."""

    def serve(self, script: Callable[[Callable[[], Peer]], None]) -> int:
        """Run a script in a thread, with a function that accepts; give its port."""
        listening = socket.create_server(("127.0.0.1", 0))
        listening.settimeout(PATIENCE)

        def accept() -> Peer:
            return Peer(listening.accept()[0])

        def run() -> None:
            greeting = accept()
            greeting.challenge()
            greeting.hang_up()
            script(accept)

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(listening.close)
        self.addCleanup(thread.join, PATIENCE)
        return int(listening.getsockname()[1])

    def test_times_exchanges_from_when_they_should_have_begun(self) -> None:
        # Nobody is served until all have come. The first came nine hundredths
        # of a second before the last, so it waited that much longer.
        def stall(accept: Callable[[], Peer]) -> None:
            peers = [accept() for _ in range(10)]
            for peer in peers:
                peer.challenge()
            for peer in reversed(peers):
                peer.write(QUOTE)

        outcome = Load(10, rate=100).put_on(self.serve(stall))
        last_come, *_, first_come = outcome.latencies
        self.assertGreaterEqual(first_come - last_come, 0.09)

    def test_times_the_wait_for_a_connection_too(self) -> None:
        def serve(accept: Callable[[], Peer]) -> None:
            for _ in range(5):
                peer = accept()
                peer.challenge()
                peer.write(QUOTE)
                peer.hang_up()

        # All should have begun at once, and each has to wait for those before it.
        outcome = Load(5, connections=1, rate=1e9).put_on(self.serve(serve))
        self.assertEqual(list(outcome.latencies), sorted(outcome.latencies))
        self.assertEqual(list(outcome.lateness), sorted(outcome.lateness))

    def test_counts_what_is_refused_by_its_reason(self) -> None:
        def refuse(accept: Callable[[], Peer]) -> None:
            busy, silent = accept(), accept()
            busy.read()
            busy.write({"type": "error", "code": "busy", "message": "No room."})
            silent.read()
            silent.hang_up()

        outcome = Load(2, connections=2).put_on(self.serve(refuse))
        self.assertEqual(outcome.refused, {"busy": 1, "closed": 1})
        self.assertEqual(len(outcome.latencies), 0)

    def test_makes_no_figure_of_a_server_that_refuses(self) -> None:
        def refuse(accept: Callable[[], Peer]) -> None:
            accept().hang_up()

        load = Load(1)
        port = self.serve(refuse)
        self.assertRaisesRegex(Unfit, "closed 1|reset 1", cost_of, load, port, os.getpid())

    def test_reads_answers_that_come_in_pieces(self) -> None:
        def drip(accept: Callable[[], Peer]) -> None:
            peer = accept()
            peer.challenge()
            frame = framed(json.dumps(QUOTE, separators=(",", ":")).encode())
            for index in range(len(frame)):
                peer._connection.sendall(frame[index : index + 1])

        self.assertEqual(len(Load(1).put_on(self.serve(drip)).latencies), 1)


class CommandLine(Running):
    def load(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bench.load", *arguments],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start_cheap(self) -> Server:
        """A server whose puzzles any nonces solve."""
        return self.start(WOW_POW__EFFORT="4", WOW_POW__CEILING="4")

    def test_makes_closed_and_open_loops_of_exchanges(self) -> None:
        server = self.start_cheap()
        for loop in (["--per-connection", "10", "--pid", str(os.getpid())], ["--rate", "1000"]):
            ended = self.load(str(server.address[1]), "--json", "--exchanges", "100", *loop)
            self.assertEqual((ended.returncode, ended.stderr), (0, ""))
            result = json.loads(ended.stdout)
            self.assertEqual((result["served"], result["refused"]), (100, {}))
            self.assertEqual("server" in result, "--pid" in loop)
        self.assertEqual(server.metric('wow_outcomes_total{code="ok",type="solution"}'), 200)

    def test_draws_a_picture_and_prints_a_table(self) -> None:
        server = self.start_cheap()
        picture = Path(self.mktemp()).with_suffix(".png").absolute()
        port = str(server.address[1])
        ended = self.load(port, "--exchanges", "50", "--plot", str(picture))
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertRegex(ended.stdout, r"(?m)^latency +50 % in ")
        self.assertTrue(picture.read_bytes().startswith(b"\x89PNG"))

    def test_says_how_to_start_a_server_that_asks_for_work(self) -> None:
        server = self.start()
        ended = self.load(str(server.address[1]))
        self.assertEqual(ended.returncode, 1)
        self.assertIn("asks 16 hashes a round", ended.stderr)
        self.assertIn("WOW_POW__EFFORT=4 WOW_POW__CEILING=4", ended.stderr)

    def test_says_that_nothing_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = str(listening.getsockname()[1])
        ended = self.load(port)
        self.assertEqual(ended.returncode, 1)
        self.assertIn(f"127.0.0.1:{port} cannot be talked to: ", ended.stderr)

    def test_says_what_is_wrong_with_its_arguments(self) -> None:
        for wrong in (["0"], ["7777", "--rate", "-1"], ["7777", "--exchanges", "x"]):
            ended = self.load(*wrong)
            self.assertEqual(ended.returncode, 2)
            self.assertIn("must be a ", ended.stderr)
