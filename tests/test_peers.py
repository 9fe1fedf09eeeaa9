"""The server in Go, which wow is compared with, does all that the protocol asks of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from bench import servers
from tests.running import PATIENCE, Client, Message, solve

_SOURCE = Path(servers.__file__).parent / "peers" / "go"
_WOW = str(Path(sys.executable).parent / "wow")


class GoSource(SynchronousTestCase):
    def run_go(self, *arguments: str) -> None:
        ended = subprocess.run(
            [servers.find_go(), *arguments, "./..."],
            cwd=_SOURCE,
            env=servers.go_environment(),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)

    def test_passes_its_own_tests(self) -> None:
        self.run_go("test")

    def test_is_in_order(self) -> None:
        self.run_go("vet")


class GoServer(SynchronousTestCase):
    def setUp(self) -> None:
        started = servers.go(os.sched_getaffinity(0), "-rounds", "4", "-round-effort", "64")
        self.server = started.__enter__()
        self.addCleanup(started.__exit__, None, None, None)

    def connect(self, source: str = "127.0.0.1") -> Client:
        client = Client(("127.0.0.1", self.server.port), source)
        self.addCleanup(client.close)
        return client

    def assert_refused(self, client: Client, message: Message, code: str, *, closes: bool) -> None:
        answer = client.say(message)
        self.assertEqual((answer["type"], answer["code"]), ("error", code), answer)
        if closes:
            self.assertIsNone(client.hear())
        else:
            self.assertEqual(client.quote()["type"], "quote")

    def test_serves_the_client_of_wow(self) -> None:
        ended = subprocess.run(
            [_WOW, "quote", f"127.0.0.1:{self.server.port}", "--count", "3"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertNotEqual(ended.stdout, "")

    def test_takes_a_proof_once_on_whichever_connection(self) -> None:
        solution = self.connect().solution()
        self.assertEqual(self.connect().say(solution)["type"], "quote")
        self.assert_refused(self.connect(), solution, "replayed", closes=True)

    def test_refuses_a_proof_of_too_little_work(self) -> None:
        client = self.connect()
        solution = client.solution()
        short = {**solution, "nonces": solution["nonces"][:-1]}
        self.assert_refused(client, short, "insufficient_work", closes=True)

    def test_refuses_a_proof_that_proves_nothing(self) -> None:
        client = self.connect()
        challenge = client.challenge()
        # The first nonce that solves is found, so the one before it does not.
        solution = solve(challenge)
        index = next(i for i, nonce in enumerate(solution["nonces"]) if nonce)
        solution["nonces"][index] -= 1
        self.assert_refused(client, solution, "insufficient_work", closes=True)

    def test_refuses_anothers_challenge(self) -> None:
        solution = self.connect("127.0.0.2").solution()
        self.assert_refused(self.connect("127.0.0.3"), solution, "invalid_challenge", closes=True)

    def test_refuses_a_forged_challenge(self) -> None:
        client = self.connect()
        solution = client.solution()
        token = solution["challenge"]
        forged = {**solution, "challenge": ("B" if token[0] == "A" else "A") + token[1:]}
        self.assert_refused(client, forged, "invalid_challenge", closes=True)

    def test_keeps_the_connection_of_who_asks_for_something_else(self) -> None:
        asking = {"type": "request", "resource": "riches"}
        self.assert_refused(self.connect(), asking, "unknown_resource", closes=False)

    WRONG: ClassVar[list[Message]] = [
        {"type": "wish"},
        {"type": "request", "resource": 1},
        {"type": "request", "resource": ""},
        {"type": "request", "price": 1},
        {"type": "request", "nonces": [1]},
        {"type": "solution", "nonces": [1]},
        {"type": "solution", "challenge": "A"},
        {"type": "solution", "challenge": "A", "nonces": [1.0]},
        {"type": "solution", "challenge": "A", "nonces": [-1]},
        {"type": "solution", "challenge": "A", "nonces": [2**53]},
        {"type": "solution", "challenge": "A", "nonces": ["1"]},
    ]

    def test_refuses_what_is_no_message(self) -> None:
        for message in self.WRONG:
            self.assert_refused(self.connect(), message, "malformed", closes=True)

    def test_refuses_a_frame_that_is_too_long_before_its_body_is_there(self) -> None:
        for length in (0, 4097):
            client = self.connect()
            client.socket.sendall(length.to_bytes(4, "big"))
            answer = client.hear()
            self.assertEqual(answer and answer["code"], "frame_too_large")
            self.assertIsNone(client.hear())
