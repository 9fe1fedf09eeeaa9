"""C{wow health}, with what the operators' site says handed to it."""

from __future__ import annotations

import io
import json
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from wow.test.test_cli import CommandTestCase


def answer(status: str, body: object) -> bytes:
    return f"HTTP/1.1 {status}\r\n\r\n{json.dumps(body)}\n".encode()


class Peer:
    """A socket whose other end has already said all that it will, and closed."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.heard = b""

    def setsockopt(self, *_: Any) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        self.heard += data

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self.said))

    def close(self) -> None:
        pass


class HealthTestCase(CommandTestCase):
    def health(self, said: bytes, *words: str) -> tuple[int, str]:
        """The exit code, and what was put out; the first line of the request is in C{asked}."""
        peer = Peer(said)
        with patch("socket.create_connection", return_value=peer) as connect:
            code = self.wow("health", *words)
        self.place = connect.call_args.args[0]
        self.asked = peer.heard.decode().split("\r\n")[0]
        return code, self.out + self.err


class AnswerTests(HealthTestCase):
    """What the exit code and the words say."""

    def test_ready(self) -> None:
        ready = answer("200 OK", {"ready": True, "reasons": {}})
        self.assertEqual(self.health(ready), (0, "ready\n"))
        self.assertEqual(self.asked, "GET /health/ready HTTP/1.1")

    def test_not_ready(self) -> None:
        report = {"ready": False, "reasons": {"spent": "full", "gate": "shutting\x1b down"}}
        self.assertEqual(
            self.health(answer("503 Service Unavailable", report)),
            (1, "wow: not ready: spent: full; gate: shutting\\x1b down\n"),
        )

    def test_not_ready_for_reasons_unknown(self) -> None:
        bodies: list[object] = ["", [], {"reasons": "full"}]
        for body in bodies:
            code, said = self.health(answer("503 Service Unavailable", body))
            self.assertEqual((code, said), (1, "wow: not ready: status 503\n"))

    def test_not_ready_for_reasons_that_strangers_are_not_told(self) -> None:
        self.assertEqual(
            self.health(answer("503 Service Unavailable", {"ready": False})),
            (1, "wow: not ready: why is told to whoever shows admin.token\n"),
        )

    def test_live(self) -> None:
        self.assertEqual(self.health(answer("200 OK", {"live": True}), "--live"), (0, "live\n"))
        self.assertEqual(self.asked, "GET /health/live HTTP/1.1")

    def test_somebody_else(self) -> None:
        for said in (b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n\r\n<html>"):
            code, said_of_it = self.health(said)
            self.assertEqual(code, 6, said)
            self.assertIn("is no operators' site of wow", said_of_it)

    def test_ends_without_a_word(self) -> None:
        code, said = self.health(b"")
        self.assertEqual(code, 3)
        self.assertIn("closed connection without response", said)

    def test_longer_than_any_report(self) -> None:
        self.assertEqual(self.health(answer("200 OK", "x" * 100_000))[0], 6)

    @given(st.binary(max_size=200))
    def test_anything(self, said: bytes) -> None:
        """Nothing that is said ends in a traceback, or in success."""
        self.assertNotEqual(self.health(said)[0], 0)
        self.assertNotEqual(self.health(b"HTTP/1.1 503 no\r\n\r\n" + said)[0], 0)


class PlaceTests(HealthTestCase):
    """Whom it asks, and what it says of a server that does not answer."""

    def test_default(self) -> None:
        self.health(b"")
        self.assertEqual(self.place, ("127.0.0.1", 7778))

    def test_given(self) -> None:
        self.health(b"", "[::1]:80")
        self.assertEqual(self.place, ("::1", 80))

    def test_no_place(self) -> None:
        for place in ("x", ":80", "x:", "x:0", "x:65536", "x:y", "x:-1", "x:99999999999"):
            self.assertEqual(self.wow("health", place), 2, place)

    def test_nobody_there(self) -> None:
        with patch("socket.create_connection", side_effect=ConnectionRefusedError(111, "refused")):
            self.assertEqual(self.wow("health"), 3)
        self.assertEqual(self.err, "wow: could not ask 127.0.0.1:7778: refused\n")

    def test_no_answer(self) -> None:
        with patch("socket.create_connection", side_effect=TimeoutError) as connect:
            self.assertEqual(self.wow("health", "--timeout=2"), 5)
        self.assertEqual(connect.call_args.args[1], 2)
        self.assertIn("within 2 seconds", self.err)
