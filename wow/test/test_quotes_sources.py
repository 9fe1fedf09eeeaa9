"""Sources give quotes, or fail with a reason that can be shown to anybody."""

from __future__ import annotations

import gzip
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from wow.quotes.answer import Layout
from wow.quotes.interfaces import IQuoteSource, SourceFailed
from wow.quotes.sources import CollectionSource, HttpSource, load_collection
from wow.wire import Quote

KEY = "s3cr3t-k3y"
ONE = Quote("one", "A", "api")


@implementer(IAgentEndpointFactory)
class Endpoints:
    """Connects to any host without asking for its address."""

    def __init__(self, reactor: MemoryReactorClock) -> None:
        self._reactor = reactor

    def endpointForURI(self, uri: URI) -> TCP4ClientEndpoint:
        return TCP4ClientEndpoint(self._reactor, "192.0.2.1", uri.port)


class Fetching(SynchronousTestCase):
    """An HTTP API is asked, byte by byte, over a connection in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        agent = Agent.usingEndpointFactory(
            self.reactor, Endpoints(self.reactor), HTTPConnectionPool(self.reactor, False)
        )
        self.source = HttpSource(
            "api",
            f"http://api.example/quotes?key={KEY}",
            Layout("q", "a"),
            agent,
            self.reactor,
            {"X-Api-Key": KEY, "user-agent": "test"},
            timeout=5.0,
            max_bytes=100,
        )

    def tearDown(self) -> None:
        # Whatever happened, no timer is left.
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def fetch(self) -> Deferred[list[Quote]]:
        fetched = self.source.fetch()
        factory: Any = self.reactor.tcpClients[-1][2]
        self.http = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.http.makeConnection(self.transport)
        return fetched

    def answer(self, *lines: bytes, body: bytes = b'[{"q":"one","a":"A"}]') -> Any:
        fetched = self.fetch()
        self.http.dataReceived(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        return fetched

    def ok(self, *headers: bytes, body: bytes = b'[{"q":"one","a":"A"}]') -> Any:
        return self.answer(b"HTTP/1.1 200 OK", *headers, body=body)

    def assert_fails(self, fetched: Deferred[list[Quote]], reason: str) -> None:
        failure = self.failureResultOf(fetched, SourceFailed)
        self.assertEqual(str(failure.value), reason)
        self.assertNotIn(KEY, failure.getTraceback(detail="verbose"))

    def assert_closed(self) -> None:
        self.assertEqual(self.transport.producerState, "stopped")

    def test_interface(self) -> None:
        """It is a source."""
        verifyObject(IQuoteSource, self.source)

    def test_request(self) -> None:
        """It asks for JSON, not compressed, and says who it is unless told otherwise."""
        fetched = self.fetch()
        lines = self.transport.value().split(b"\r\n")
        self.assertEqual(lines[0], f"GET /quotes?key={KEY} HTTP/1.1".encode())
        for line in (b"Accept: application/json", b"User-Agent: test", b"Host: api.example"):
            self.assertIn(line, lines)
        self.assertIn(f"X-Api-Key: {KEY}".encode().lower(), [line.lower() for line in lines])
        encodings = [line for line in lines if line.lower().startswith(b"accept-encoding")]
        self.assertEqual(encodings, [b"Accept-Encoding: identity"])
        fetched.cancel()
        self.failureResultOf(fetched, SourceFailed)

    def test_quotes(self) -> None:
        """An answer becomes quotes."""
        self.assertEqual(self.successResultOf(self.ok(b"Content-Length: 21")), [ONE])

    def test_pieces(self) -> None:
        """An answer may come byte by byte."""
        fetched = self.fetch()
        for byte in b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n[{"q":"one","a":"A"}]':
            self.assertNoResult(fetched)
            self.http.dataReceived(bytes([byte]))
        self.assertEqual(self.successResultOf(fetched), [ONE])

    def test_body_that_ends_with_the_connection(self) -> None:
        """An answer without a length is whole if its JSON is."""
        fetched = self.ok()
        self.http.connectionLost(Failure(error.ConnectionDone()))
        self.assertEqual(self.successResultOf(fetched), [ONE])

    def test_other_status(self) -> None:
        """Any status but 200 is a failure, and the body is not read."""
        for status in (201, 206, 301, 401, 429, 500, 503):
            fetched = self.answer(f"HTTP/1.1 {status} {KEY}".encode(), b"Content-Length: 21")
            self.assert_fails(fetched, f"the API answered with status {status}")

    def test_other_status_closes(self) -> None:
        """The connection of a refused answer is closed, not forgotten."""
        fetched = self.answer(b"HTTP/1.1 500 No", body=b"")
        self.failureResultOf(fetched, SourceFailed)
        self.assert_closed()

    def test_no_content(self) -> None:
        """An answer that has no body by its status is refused as well."""
        self.assert_fails(
            self.answer(b"HTTP/1.1 204 No Content", body=b""), "the API answered with status 204"
        )

    def test_redirect(self) -> None:
        """A redirect is not followed: the key is for this host only."""
        fetched = self.answer(b"HTTP/1.1 302 Found", b"Location: http://other.example/")
        self.assert_fails(fetched, "the API answered with status 302")
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_encoding(self) -> None:
        """An answer with a content encoding is refused, inflated by nobody."""
        for encoding in (b"gzip", b"deflate", b"br", b"identity, gzip"):
            body = gzip.compress(b'[{"q":"one"}]')
            fetched = self.ok(b"Content-Encoding: " + encoding, body=body)
            self.assert_fails(fetched, "the answer is compressed, which was not asked for")
            self.assert_closed()

    def test_too_long(self) -> None:
        """A body over the limit is refused when the limit is passed, and the connection closed."""
        fetched = self.ok(body=b" " * 100)
        self.assertNoResult(fetched)
        self.http.dataReceived(b" ")
        self.assert_fails(fetched, "the answer is longer than 100 bytes")
        self.assert_closed()
        self.http.dataReceived(b" " * 1000)
        self.http.connectionLost(Failure(error.ConnectionDone()))

    def test_longest(self) -> None:
        """A body of just the limit is read."""
        body = b'{"q":"one","a":"A"}'.ljust(100)
        self.assertEqual(self.successResultOf(self.ok(b"Content-Length: 100", body=body)), [ONE])

    def test_empty(self) -> None:
        """No body is no JSON."""
        self.assert_fails(self.ok(b"Content-Length: 0", body=b""), "the answer is not JSON")

    def test_truncated(self) -> None:
        """A body shorter than announced is a failure, whatever is in it."""
        for announced in (b"Content-Length: 22", b"Transfer-Encoding: chunked"):
            body = b'15\r\n[{"q":"one","a":"A"}]' if b"chunked" in announced else b"[]"
            fetched = self.ok(announced, body=body)
            self.http.connectionLost(Failure(error.ConnectionLost()))
            self.assert_fails(fetched, "ConnectionLost")

    def test_not_http(self) -> None:
        """What is no HTTP is a failure."""
        self.assert_fails(self.answer(b"SSH-2.0-OpenSSH_9.2"), "ParseError")

    def test_unknown_transfer_encoding(self) -> None:
        """A body in a transfer encoding that nobody knows is a failure."""
        self.assert_fails(self.ok(b"Transfer-Encoding: gzip"), "KeyError")

    def test_refused(self) -> None:
        """If nobody listens, the reason says so."""
        fetched = self.source.fetch()
        self.reactor.tcpClients[-1][2].clientConnectionFailed(
            self.reactor.connectors[-1], Failure(error.ConnectionRefusedError())
        )
        self.assert_fails(fetched, "ConnectionRefusedError: Connection was refused by other side.")

    def test_never_connected(self) -> None:
        """The time to connect is part of the time-out."""
        fetched = self.source.fetch()
        self.reactor.advance(5.0)
        self.assert_fails(fetched, "no whole answer within 5 s")

    def test_slow_headers(self) -> None:
        """So is the time to answer; the connection is closed at its end."""
        fetched = self.fetch()
        self.http.dataReceived(b"HTTP/1.1 200 OK\r\n")
        self.reactor.advance(4.9)
        self.assertNoResult(fetched)
        self.reactor.advance(0.1)
        self.assert_fails(fetched, "no whole answer within 5 s")
        self.assertTrue(self.transport.disconnecting)

    def test_slow_body(self) -> None:
        """And a body that drips does not stop the clock."""
        fetched = self.ok(b"Content-Length: 50", body=b"")
        for _ in range(49):
            self.reactor.advance(0.1)
            self.http.dataReceived(b" ")
        self.assertNoResult(fetched)
        self.reactor.advance(0.11)
        self.assert_fails(fetched, "no whole answer within 5 s")
        self.assert_closed()

    def test_cancel(self) -> None:
        """An attempt that is cancelled closes the connection, whatever it was waiting for."""
        fetched = self.source.fetch()
        fetched.cancel()
        self.failureResultOf(fetched, SourceFailed)
        for headers in (b"", b"HTTP/1.1 200 OK\r\n\r\n["):
            fetched = self.fetch()
            self.http.dataReceived(headers)
            fetched.cancel()
            self.failureResultOf(fetched, SourceFailed)
            stopped = self.transport.producerState == "stopped"
            self.assertTrue(stopped or self.transport.disconnecting)

    def test_cookies_are_not_kept(self) -> None:
        """What an API wants remembered is forgotten: a jar would have no bound."""
        self.successResultOf(self.ok(b"Content-Length: 21", b"Set-Cookie: a=b; Path=/"))
        fetched = self.fetch()
        self.assertNotIn(b"a=b", self.transport.value())
        fetched.cancel()
        self.failureResultOf(fetched, SourceFailed)

    def test_impossible_url(self) -> None:
        """A URL that cannot be asked for fails the attempt; the reason does not repeat it."""
        agent = Agent(self.reactor)
        for url in (f"ftp://x/?{KEY}", f"http://x:y/{KEY}", f"http://[{KEY}/"):
            source = HttpSource("api", url, Layout("q", "a"), agent, self.reactor, {}, 5.0, 100)
            failure = self.failureResultOf(source.fetch(), SourceFailed)
            self.assertNotIn(KEY, failure.getTraceback(detail="verbose"))


class Collecting(SynchronousTestCase):
    """A collection is dealt like a deck of cards."""

    def deal(self, source: CollectionSource) -> list[str]:
        return [quote.text for quote in self.successResultOf(source.fetch())]

    def of(self, size: int) -> CollectionSource:
        return CollectionSource("book", [(str(n), "A") for n in range(size)], Random(1))

    def test_interface(self) -> None:
        """It is a source."""
        verifyObject(IQuoteSource, self.of(1))

    def test_all(self) -> None:
        """Each time all quotes come, each once."""
        source = self.of(250)
        for _ in range(7):
            self.assertEqual(sorted(self.deal(source), key=int), [str(n) for n in range(250)])

    def test_source(self) -> None:
        """Each quote tells where it came from."""
        self.assertEqual(self.successResultOf(self.of(1).fetch()), [Quote("0", "A", "book")])

    def test_shuffled(self) -> None:
        """They come in another order, and in yet another after all have come."""
        source = self.of(100)
        first, second = self.deal(source), self.deal(source)
        self.assertNotEqual(first, sorted(first, key=int))
        self.assertNotEqual(first, second)

    def test_no_quote_twice_before_all_have_come(self) -> None:
        """A reader of a hundred each time sees all before any comes again."""
        source = self.of(300)
        seen = [text for _ in range(3) for text in self.deal(source)[:100]]
        self.assertEqual(len(set(seen)), 300)

    def test_own_list(self) -> None:
        """What becomes of a list that was given out does not matter."""
        source = self.of(3)
        self.successResultOf(source.fetch()).clear()
        self.assertEqual(len(self.deal(source)), 3)

    def test_empty(self) -> None:
        """A collection without quotes is none."""
        self.assertRaises(ValueError, CollectionSource, "book", [], Random(1))


class Loading(SynchronousTestCase):
    """A collection is a YAML file that is right from end to end."""

    def load(self, content: str | bytes) -> list[tuple[str, str]]:
        self.path = Path(self.mktemp())
        self.path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_collection(self.path)

    def refuse(self, content: str | bytes, *parts: str) -> None:
        with self.assertRaises(ValueError) as caught:
            self.load(content)
        for part in (str(self.path), *parts):
            self.assertIn(part, str(caught.exception))

    def test_collection(self) -> None:
        """Text and author, or a text alone, in order, each on one line."""
        content = (
            "- text: >\n    one\n    two\n  author: A\n- {text: 'three'}\n- {text: 4a, author: ''}"
        )
        self.assertEqual(self.load(content), [("one two", "A"), ("three", ""), ("4a", "")])

    def test_path_as_string(self) -> None:
        """A path may be a string."""
        self.load("[{text: one}]")
        self.assertEqual(load_collection(str(self.path)), [("one", "")])

    def test_embedded(self) -> None:
        """There is a collection without any file: large, all with authors, nothing twice."""
        quotes = load_collection(None)
        self.assertGreaterEqual(len(quotes), 200)
        self.assertEqual(len({text for text, _ in quotes}), len(quotes))
        self.assertTrue(all(author for _, author in quotes))

    def test_no_file(self) -> None:
        """A file that is not there is named."""
        with self.assertRaises(ValueError) as caught:
            load_collection("/no/such/file.yaml")
        self.assertIn("/no/such/file.yaml", str(caught.exception))

    def test_no_collection(self) -> None:
        """What is no list of quotes, or an empty one, is refused."""
        for content in ("", "[]", "{}", "text: one", "one", "1"):
            self.refuse(content, "must be a list")

    def test_not_yaml(self) -> None:
        """What is no YAML, or no text, or calls for more than data, is refused."""
        for content in ("[", "a: b: c", b"\xff\xfe\x00", "- !!python/object/apply:os.getcwd []"):
            self.refuse(content)

    def test_entry(self) -> None:
        """An entry that is no quote is named by its number."""
        for bad, reason in (
            ("text", "must have a text and an author"),
            ("{}", "text is not a string"),
            ("{author: A}", "text is not a string"),
            ("{text: 1}", "text is not a string"),
            ("{text: yes}", "text is not a string"),
            ("{text: ' '}", "text is empty"),
            ("{text: a, author: 2001-01-01}", "author is not a string"),
            ('{text: "a\\e[0m"}', "text has control characters"),
            ("{text: a, auther: b}", "has 'auther', which means nothing"),
            ("{text: a, 1: b}", "has 1, which means nothing"),
        ):
            self.refuse(f"- {{text: one}}\n- {bad}\n- {{text: two}}", "entry 2: ", reason)
