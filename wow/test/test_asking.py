"""C{wow quote}, without a reactor."""

from __future__ import annotations

import json
from functools import partial
from io import StringIO
from unittest.mock import patch

from twisted.internet import defer, error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from wow import errors
from wow.cli.asking import Asking, parse_endpoint, render, render_json
from wow.cli.exits import EXPLAINED, Exit, printable
from wow.cli.failures import explain
from wow.client import Limits, ProtocolError, TooExpensive
from wow.pow.search import SolverFailed
from wow.pow.solver import SynchronousSolver
from wow.test.fake_server import FakeServer, MemoryEndpoint, honestly
from wow.test.test_wire import CONTEXT
from wow.wire import Quote, Request


class PrintableTests(SynchronousTestCase):
    """A stranger's text does nothing to a terminal."""

    def test_harmless_text_stays(self) -> None:
        for text in ("Know thyself.", "Γνῶθι σεαυτόν", "知己知彼", "a \N{EM DASH} b", "\\x1b"):
            self.assertEqual(printable(text), text)

    def test_controls(self) -> None:
        self.assertEqual(printable("\x1b[31mred\x07"), "\\x1b[31mred\\x07")
        self.assertEqual(printable("a\x9b1mb\x00\x7f"), "a\\x9b1mb\\x00\\x7f")

    def test_direction(self) -> None:
        self.assertEqual(printable("a\u202eb\u2066\ufeff"), "a\\u202eb\\u2066\\ufeff")

    def test_one_line(self) -> None:
        self.assertEqual(printable(" a\r\nb\tc\u2028d\x85e \n"), "a b c d e")

    def test_every_character(self) -> None:
        for number in range(0x3000):
            self.assertTrue(printable(chr(number)).isprintable())


class RenderTests(SynchronousTestCase):
    """A quote becomes a line."""

    def test_author(self) -> None:
        quote = Quote("Know\nthyself.", "So\x1bcrates", "file")
        self.assertEqual(render(quote), "Know thyself. \N{EM DASH} So\\x1bcrates")

    def test_no_author(self) -> None:
        for author in ("", " \n"):
            self.assertEqual(render(Quote("Know thyself.", author, "file")), "Know thyself.")

    def test_json(self) -> None:
        quote = Quote('"\x1b\n\u202e—', "ä", "file")
        line = render_json(quote)
        self.assertTrue(line.isascii() and line.isprintable())
        fields = {"text": '"\x1b\n\u202e—', "author": "ä", "source": "file"}
        self.assertEqual(json.loads(line), fields)


class EndpointTests(SynchronousTestCase):
    """Where to connect."""

    def refused(self, text: str) -> str:
        with self.assertRaises(ValueError) as caught:
            parse_endpoint(MemoryReactorClock(), text)
        return str(caught.exception)

    def test_shorthand(self) -> None:
        for text in ("localhost:7777", "127.0.0.1:7777", "[::1]:7777", "my-host.example:1"):
            endpoint = parse_endpoint(MemoryReactorClock(), text)
            self.assertIsInstance(endpoint, HostnameEndpoint)

    def test_shorthand_means_what_it_says(self) -> None:
        for text, shown in (("[::1]:7777", "[::1]:7777>"), ("example.com:1", " example.com:1>")):
            endpoint = parse_endpoint(MemoryReactorClock(), text)
            self.assertIn(shown, repr(endpoint))

    def test_endpoint_strings(self) -> None:
        for text, kind in (
            ("tcp:127.0.0.1:7777", TCP4ClientEndpoint),
            ("tcp:host=example.com:port=7777", TCP4ClientEndpoint),
            ("unix:/run/wow", UNIXClientEndpoint),
            ("unix:7777", UNIXClientEndpoint),
        ):
            self.assertIsInstance(parse_endpoint(MemoryReactorClock(), text), kind)
        parse_endpoint(MemoryReactorClock(), "tls:example.com:7777")

    def test_server_strings(self) -> None:
        for kind in ("tcp", "tls", "ssl"):
            self.assertIn(f"say where it is: {kind}:HOST:7777", self.refused(f"{kind}:7777"))
        self.assertIn("no place to connect to", self.refused("tcp:7777:interface=127.0.0.1"))

    def test_nonsense(self) -> None:
        for text in ("", "localhost", "7777", "http://example.com", "tcp:a:b", "unix", "::1:7777"):
            self.assertIn("no place to connect to", self.refused(text))

    def test_ports(self) -> None:
        for port in (0, 65536, 999999999):
            self.assertIn("no such port", self.refused(f"localhost:{port}"))


class AskingTests(SynchronousTestCase):
    """Quotes come in and lines go out."""

    def run_asking(
        self, count: int, traceparent: str | None = None
    ) -> tuple[Deferred[None], list[str]]:
        self.server = FakeServer(partial(honestly, rounds=1))
        endpoint = MemoryEndpoint(self.server)
        asking = Asking(
            endpoint,
            SynchronousSolver(),
            Clock(),
            Limits(),
            count,
            lambda quote: quote.text,
            traceparent,
        )
        with patch("sys.stdout", StringIO()) as output:
            done = Deferred.fromCoroutine(asking.run())
            endpoint.pump.flush()
        return done, output.getvalue().splitlines()

    def test_one(self) -> None:
        done, lines = self.run_asking(1)
        self.successResultOf(done)
        self.assertEqual(lines, ["Know thyself."])
        self.assertTrue(self.server.lost)

    def test_count(self) -> None:
        done, lines = self.run_asking(3)
        self.successResultOf(done)
        self.assertEqual(lines, ["Know thyself."] * 3)

    def test_trace_context(self) -> None:
        self.run_asking(2, CONTEXT)
        asked = [message for message in self.server.heard if isinstance(message, Request)]
        self.assertEqual(asked, [Request("quote", CONTEXT)] * 2)

    def test_closed_output(self) -> None:
        with patch("wow.cli.asking.put", side_effect=BrokenPipeError):
            done, _ = self.run_asking(3)
        self.failureResultOf(done, BrokenPipeError)
        self.assertTrue(self.server.lost)


class FailureTests(SynchronousTestCase):
    """Each kind of failure has its exit code, and words."""

    def explained(self, failed: Exception) -> tuple[Exit, str]:
        explained = explain(failed, "PLACE")
        assert explained is not None
        return explained

    def test_every_refusal(self) -> None:
        for code, kind in errors.BY_CODE.items():
            exit_code, text = self.explained(kind("because."))
            self.assertEqual(exit_code, 1)
            self.assertIn(f"({code}): because.", text)

    def test_retry_after(self) -> None:
        self.assertEqual(
            self.explained(errors.Busy("Full.", 2.5)),
            (1, "the server refused (busy): Full. Try again in 2.5 s."),
        )
        self.assertNotIn("again", self.explained(errors.Busy("Full.", -1))[1])

    def test_long_refusal(self) -> None:
        self.assertLess(len(self.explained(errors.Busy("x" * 60000))[1]), 600)

    def test_codes(self) -> None:
        for failed, code, words in (
            (TooExpensive(20, 10), 4, "--max-effort 20"),
            (defer.TimeoutError("no answer within 5 seconds"), 5, "5 seconds from PLACE"),
            (ProtocolError("it hums"), 6, "no wow server: it hums"),
            (error.ConnectionRefusedError(), 3, "is the server running at PLACE?"),
            (error.DNSLookupError(), 3, "is its name right?"),
            (error.TCPTimedOutError(), 3, "could not connect to PLACE"),
            (error.ConnectionDone(), 3, "PLACE ended"),
            (error.ConnectionLost(), 3, "PLACE ended"),
            (OverflowError(), 2, "no such port"),
            (SolverFailed("no memory"), 1, "no memory"),
        ):
            exit_code, text = self.explained(failed)
            self.assertEqual(exit_code, code)
            self.assertIn(words, text)

    def test_bug(self) -> None:
        self.assertIsNone(explain(ZeroDivisionError(), "PLACE"))

    def test_help_has_every_code(self) -> None:
        for code in Exit:
            self.assertRegex(EXPLAINED, rf"\b{code.value}\b")
