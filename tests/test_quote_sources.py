"""Quotes from real HTTP servers, of every kind that there is out there."""

from __future__ import annotations

import datetime
import gzip
import io
import ipaddress
import json
import socket
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import treq.client
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry, Counter, Gauge
from twisted.internet import reactor as _reactor
from twisted.internet import ssl, task, tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from wow.breaker import Breaker
from wow.http.endpoint import BoundedEndpoints
from wow.logs import make_logger
from wow.metrics import Tally
from wow.quotes.answer import Layout
from wow.quotes.interfaces import IQuoteSource, SourceFailed
from wow.quotes.service import QuoteService, Supply
from wow.quotes.sources import CollectionSource, HttpSource
from wow.wire import Quote

reactor: Any = _reactor

KEY = "s3cr3t-k3y"
ITEM = {"q": "one", "a": "A"}
ONE = [Quote("one", "A", "api")]
PATIENT = 60.0
"""Seconds that never pass in a test that goes well."""
HASTY = 0.3
REFUSED = "ConnectionRefusedError: Connection was refused by other side: 111: Connection refused."
TOO_SLOW = "no whole answer within 0.3 s"


class Api(Protocol):
    """One connection to an API: hands itself to a script once it was asked."""

    transport: Any

    def __init__(self, script: Callable[[Api], None], connections: list[Api]) -> None:
        self._script = script
        self._connections = connections
        self.request = b""
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        asked, self.request = b"\r\n\r\n" in self.request, self.request + data
        if not asked and b"\r\n\r\n" in self.request:
            self._script(self)

    def say(self, status: str, body: bytes, *headers: str) -> None:
        """Answer, and hang up."""
        lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


@implementer(IPullProducer)
class Endless:
    """Writes as long as somebody reads."""

    def __init__(self, api: Api, piece: bytes) -> None:
        self._transport = api.transport
        self._piece = piece
        self._transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self._transport.write(self._piece)

    def stopProducing(self) -> None:
        pass


def saying(answer: Any, status: str = "200 OK", *headers: str) -> Callable[[Api], None]:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return lambda api: api.say(status, body, *headers)


def writing(*pieces: bytes, close: bool = False) -> Callable[[Api], None]:
    """Say just these bytes, and hang up or wait."""

    def script(api: Api) -> None:
        api.transport.writeSequence(pieces)
        if close:
            api.transport.loseConnection()

    return script


def dripping(start: bytes, drop: bytes) -> Callable[[Api], None]:
    """Say something, and then go on for ever, slowly."""

    def script(api: Api) -> None:
        api.transport.write(start)
        drip = task.LoopingCall(api.transport.write, drop)
        drip.start(0.02)
        api.lost.addCallback(lambda _: drip.stop())

    return script


async def until(condition: Callable[[], object]) -> None:
    """Wait for something to become true."""
    for _ in range(6000):
        if condition():
            return
        await task.deferLater(reactor, 0.01)
    raise AssertionError("waited a minute for what did not happen")


class Case(TestCase):
    """An API on a port that the kernel chose; it is gone until L{serve}."""

    timeout = 120

    def setUp(self) -> None:
        # Bound but not listening: connections are refused, and nobody else
        # gets the port.
        self.socket = socket.socket()
        self.addCleanup(self.socket.close)
        self.socket.setblocking(False)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.connections: list[Api] = []
        self.script: Callable[[Api], None] = saying(ITEM)

    def serve(self, script: Callable[[Api], None]) -> None:
        self.script = script
        self.listen(
            Factory.forProtocol(lambda: Api(lambda api: self.script(api), self.connections))
        )

    def listen(self, factory: Any) -> None:
        self.socket.listen()
        port = reactor.adoptStreamPort(self.socket.fileno(), socket.AF_INET, factory)
        self.addCleanup(self.hang_up)
        self.addCleanup(port.stopListening)

    async def hang_up(self) -> None:
        for api in self.connections:
            api.transport.abortConnection()
            await api.lost

    def source(
        self,
        layout: Layout | None = None,
        timeout: float = PATIENT,
        agent: Agent | None = None,
        scheme: str = "http",
    ) -> HttpSource:
        return HttpSource(
            "api",
            f"{scheme}://127.0.0.1:{self.port}/quotes?key={KEY}",
            layout or Layout("q", "a"),
            agent or self.agent(),
            reactor,
            {"X-Api-Key": KEY},
            timeout,
            max_bytes=10_000,
        )

    def agent(self, policy: IPolicyForHTTPS | None = None) -> Agent:
        """An agent as the server makes it."""
        endpoints = BoundedEndpoints(
            reactor, PATIENT, 100_000, policy or BrowserLikePolicyForHTTPS()
        )
        pool = HTTPConnectionPool(reactor, persistent=False)
        agent: Agent = Agent.usingEndpointFactory(reactor, endpoints, pool)
        return agent

    async def refuse(self, reason: str, timeout: float = PATIENT) -> None:
        """The source fails for that reason, and hangs up."""
        failure = await self.failure(self.source(timeout=timeout))
        self.assertEqual(str(failure), reason)
        for api in self.connections:
            await api.lost

    async def failure(self, source: IQuoteSource) -> SourceFailed:
        try:
            quotes = await source.fetch()
        except SourceFailed as failed:
            return failed
        raise AssertionError(f"got {quotes}")


class Good(Case):
    """An API that does as it should."""

    async def check(self, answer: Any, layout: Layout | None = None) -> None:
        self.serve(saying(answer))
        self.assertEqual(await self.source(layout).fetch(), ONE)

    async def test_list(self) -> None:
        """A list of quotes."""
        await self.check([ITEM])

    async def test_single(self) -> None:
        """One quote, in no list."""
        await self.check(ITEM)

    async def test_nested(self) -> None:
        """Quotes further down."""
        answer = {"data": {"quotes": [{"body": {"q": "one"}, "by": "A"}]}}
        await self.check(answer, Layout("body.q", "by", "data.quotes"))

    async def test_any_type(self) -> None:
        """The announced type does not matter, what comes does."""
        self.serve(saying(ITEM, "200 OK", "Content-Type: text/html; charset=latin-1"))
        self.assertEqual(await self.source().fetch(), ONE)

    async def test_chunked(self) -> None:
        """A body in chunks."""
        chunks = (b'9\r\n{"q":"one\r\n', b'a\r\n","a":"A"}\r\n', b"0\r\n\r\n")
        self.serve(writing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *chunks))
        self.assertEqual(await self.source().fetch(), ONE)

    async def test_until_the_end(self) -> None:
        """A body of unknown length."""
        self.serve(writing(b"HTTP/1.0 200 OK\r\n\r\n", b'{"q":"one","a":"A"}', close=True))
        self.assertEqual(await self.source().fetch(), ONE)

    async def test_again(self) -> None:
        """One attempt after the other, over connections that are kept."""

        def keep(api: Api) -> None:
            api.request = b""
            api.transport.write(b'HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{"q":"one","a":"A"}')

        self.serve(keep)
        pool = HTTPConnectionPool(reactor)
        self.addCleanup(pool.closeCachedConnections)
        source = self.source(agent=Agent(reactor, pool=pool))
        for _ in range(3):
            self.assertEqual(await source.fetch(), ONE)
        self.assertEqual(len(self.connections), 1)

    async def test_after_a_refusal(self) -> None:
        """A connection whose answer was refused is never used again."""
        pool = HTTPConnectionPool(reactor)
        self.addCleanup(pool.closeCachedConnections)
        source = self.source(agent=Agent(reactor, pool=pool))
        self.serve(writing(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", b" " * 10_001))
        self.assertEqual(str(await self.failure(source)), "the answer is longer than 10000 bytes")
        self.script = saying(ITEM)
        self.assertEqual(await source.fetch(), ONE)


class Bad(Case):
    """An API that does not; it never costs more than one attempt."""

    async def test_gone(self) -> None:
        """Nobody listens."""
        await self.refuse(REFUSED)

    async def test_silent(self) -> None:
        """It takes the request and says nothing."""
        self.serve(writing())
        await self.refuse(TOO_SLOW, HASTY)

    async def test_slow_headers(self) -> None:
        """The headers do not come to an end."""
        self.serve(dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"))
        await self.refuse(TOO_SLOW, HASTY)

    async def test_slow_body(self) -> None:
        """The body does not come to an end, though there is always more of it."""
        self.serve(dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "))
        await self.refuse(TOO_SLOW, HASTY)

    async def test_stuck_body(self) -> None:
        """The body stops half-way."""
        self.serve(writing(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n["))
        await self.refuse(TOO_SLOW, HASTY)

    async def test_status(self) -> None:
        """It says that it has trouble, or enough of us."""
        self.serve(saying(ITEM))
        for status in (201, 206, 401, 404, 429, 500, 503):
            self.script = saying([ITEM], f"{status} No", f"Retry-After: {KEY}")
            await self.refuse(f"the API answered with status {status}")

    async def test_status_and_endless_body(self) -> None:
        """It says that it has trouble, at length."""

        def script(api: Api) -> None:
            api.transport.write(b"HTTP/1.1 500 No\r\n\r\n")
            Endless(api, b"x" * 65536)

        self.serve(script)
        await self.refuse("the API answered with status 500")

    async def test_redirect(self) -> None:
        """It sends us elsewhere; the key goes nowhere else."""
        self.serve(saying(b"", "302 Found", f"Location: http://127.0.0.1:{self.port}/"))
        await self.refuse("the API answered with status 302")
        self.assertEqual(len(self.connections), 1)

    async def test_truncated(self) -> None:
        """It hangs up in mid-body, whatever the body says until then."""
        for framing in (b"Content-Length: 20", b"Transfer-Encoding: chunked"):
            body = b'13\r\n{"q":"one","a":"A"}\r\n' if b"chunked" in framing else b'{"q":"one"}'
            answer = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + body
            self.serve_or_change(writing(answer, close=True))
            await self.refuse("ConnectionDone")

    def serve_or_change(self, script: Callable[[Api], None]) -> None:
        if self.connections:
            self.script = script
        else:
            self.serve(script)

    async def test_hangs_up(self) -> None:
        """It hangs up without a word."""
        self.serve(writing(close=True))
        await self.refuse("ConnectionDone")

    async def test_reset(self) -> None:
        """It breaks the connection in mid-body."""

        def script(api: Api) -> None:
            api.transport.writeSomeData(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n[")
            api.transport.abortConnection()

        self.serve(script)
        self.assertIn(str(await self.failure(self.source())), ("ConnectionLost", "ConnectionDone"))

    async def test_no_quotes(self) -> None:
        """What it says is no JSON, or no UTF-8, or has another shape."""
        for answer, reason in (
            (b"<!DOCTYPE html><html>", "the answer is not JSON"),
            (b"", "the answer is not JSON"),
            (b'{"q":"\xe9\xe8"}', "the answer is not UTF-8"),
            (b"[" * 9000, "the answer cannot be read: RecursionError"),
            (b'{"quote":"one"}', "the answer has no quotes where they should be"),
            (b"[]", "the answer has no quotes where they should be"),
        ):
            self.serve_or_change(saying(answer, "200 OK", "Content-Type: application/json"))
            await self.refuse(reason)

    async def test_not_http(self) -> None:
        """It speaks something else."""
        self.serve(writing(b"SSH-2.0-OpenSSH_9.2p1\r\n"))
        await self.refuse("ParseError")

    async def test_endless_body(self) -> None:
        """It never stops, as fast as it can: it is stopped."""

        def script(api: Api) -> None:
            api.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
            Endless(api, b" " * 65536)

        self.serve(script)
        await self.refuse("the answer is longer than 10000 bytes")

    async def test_endless_headers(self) -> None:
        """It never comes to the body."""

        def script(api: Api) -> None:
            api.transport.write(b"HTTP/1.1 200 OK\r\n")
            Endless(api, b"X-Header: " + b"x" * 1000 + b"\r\n")

        self.serve(script)
        await self.refuse("ConnectionAborted")

    async def test_long_body(self) -> None:
        """It has one byte too many."""
        self.serve(saying(b'{"q":"one","a":"A"}'.ljust(10_001)))
        await self.refuse("the answer is longer than 10000 bytes")

    async def test_compressed(self) -> None:
        """It compresses, though we asked it not to."""
        body = gzip.compress(json.dumps(ITEM).encode())
        self.serve(saying(body, "200 OK", "Content-Encoding: gzip"))
        await self.refuse("the answer is compressed, which was not asked for")
        self.assertIn(b"Accept-Encoding: identity\r\n", self.connections[0].request)
        self.assertNotIn(b"gzip", self.connections[0].request)

    async def test_bomb(self) -> None:
        """It sends what would be 50 MB inflated; nothing of it is."""
        inflated: list[object] = []
        self.patch(treq.client, "GzipDecoder", inflated.append)
        bomb = gzip.compress(bytes(50_000_000))
        self.serve(saying(bomb, "200 OK", "Content-Encoding: gzip"))
        await self.refuse("the answer is compressed, which was not asked for")
        self.assertEqual(inflated, [])

    async def test_claims_to_be_compressed(self) -> None:
        """It says gzip, and is not."""
        self.serve(saying(ITEM, "200 OK", "Content-Encoding: gzip"))
        await self.refuse("the answer is compressed, which was not asked for")
        self.script = saying(ITEM, "200 OK", "Transfer-Encoding: gzip")
        await self.refuse("KeyError")


def make_certificate() -> Any:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ssl.PrivateCertificate.loadPEM(secret + certificate.public_bytes(pem))


class Encrypted(Case):
    """An API over TLS."""

    def setUp(self) -> None:
        super().setUp()
        self.certificate = make_certificate()

    def listen(self, factory: Any) -> None:
        super().listen(TLSMemoryBIOFactory(self.certificate.options(), False, factory))

    def trusting(self) -> HttpSource:
        policy = BrowserLikePolicyForHTTPS(ssl.trustRootFromCertificates([self.certificate]))
        return self.source(agent=self.agent(policy), scheme="https")

    async def test_good(self) -> None:
        """It works as without."""
        self.serve(saying(ITEM))
        self.assertEqual(await self.trusting().fetch(), ONE)

    async def test_stranger(self) -> None:
        """An API that cannot show who it is gets no request."""
        self.serve(saying(ITEM))
        failure = await self.failure(self.source(scheme="https"))
        self.assertIn("certificate verify failed", str(failure))
        self.assertEqual([api.request for api in self.connections], [b""])

    async def test_does_not_let_go(self) -> None:
        """An API that does not take part in closing the connection cannot keep it open."""

        def script(api: Api) -> None:
            api.transport.write(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 10_001)
            api.transport.pauseProducing()

        self.serve(script)
        failure = await self.failure(self.trusting())
        self.assertEqual(str(failure), "the answer is longer than 10000 bytes")
        await until(lambda: not any(isinstance(r, tcp.Client) for r in reactor.getReaders()))


class Living(Case):
    """A service that lives from an API, and from a collection while there is none."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = task.Clock()
        self.log = io.StringIO()
        self.registry = CollectorRegistry()

    def start(self, *sources: IQuoteSource) -> QuoteService:
        registry = self.registry
        served = Counter("served", "", ["source"], registry=registry)
        service = QuoteService(
            [Supply(source, Breaker(self.clock, lambda: 0.0)) for source in sources],
            10,
            self.clock,
            make_logger(self.log, "debug", "json"),
            lambda source: Tally(served.labels(source)),
            Gauge("pooled", "", registry=registry),
            Counter("fetches", "", ["source", "outcome"], registry=registry),
        )
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def live(self, service: QuoteService, source: str) -> None:
        """Take quotes until it lives from that source; none is ever missing."""

        def lives() -> bool:
            for _ in range(10):
                self.assertEqual(quote_of(service).text, "one")
            self.clock.advance(1)
            return service.lives_from == source

        await until(lives)

    async def test_gone_and_back(self) -> None:
        """While the API is gone it lives from the collection, and then from the API again."""
        collection = CollectionSource("collection", [("one", "B")], Random(1))
        service = self.start(self.source(), collection)
        await until(lambda: service.ready)
        self.assertEqual(service.lives_from, "collection")
        self.serve(saying([ITEM] * 10))
        await self.live(service, "api")
        self.script = saying(ITEM, "500 No")
        await self.live(service, "collection")
        self.script = saying([ITEM] * 10)
        await self.live(service, "api")
        changes = [
            (line["source"], line["reason"])
            for line in map(json.loads, self.log.getvalue().splitlines())
            if line["event"] == "quotes_source_changed"
        ]
        self.assertEqual(
            changes,
            [
                ("collection", "first quotes"),
                ("api", "preferred"),
                ("collection", "the API answered with status 500"),
                ("api", "preferred"),
            ],
        )

    async def test_stop_while_asking(self) -> None:
        """A service that is stopped hangs up."""
        self.serve(dripping(b"HTTP/1.1 200 OK\r\n\r\n", b" "))
        service = self.start(self.source())
        await until(lambda: self.connections and self.connections[0].request)
        await service.stopService()
        await self.connections[0].lost

    async def test_key_is_not_told(self) -> None:
        """
        A key in the headers or the URL is in no log line, no status and no
        exception, whatever goes wrong, be it said back by the API.
        """
        told: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            told.append(f"{event!r} {event.get('log_failure')!r}")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        source = self.source(timeout=HASTY)
        key = KEY.encode()
        told.append((await self.failure(source)).__str__())
        self.serve(saying(ITEM))
        for script in (
            saying({"error": KEY}),
            saying(key),
            saying(b"[" + key),
            saying(b'{"q":"%s\xff"}' % key),
            saying(ITEM, f"401 {KEY}", f"WWW-Authenticate: {KEY}"),
            saying(ITEM, f"302 {KEY}", f"Location: /{KEY}"),
            saying(ITEM, "200 OK", f"Content-Encoding: {KEY}"),
            saying(ITEM, "200 OK", f"Transfer-Encoding: {KEY}"),
            writing(key + b"\r\n\r\n"),
            writing(b"HTTP/1.1 " + key + b"\r\n\r\n"),
            writing(b"HTTP/1.1 200 OK\r\nContent-Length: " + key + b"\r\n\r\n"),
            writing(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + key, close=True),
            writing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + key + b"\r\n"),
            writing(close=True),
            writing(),
        ):
            self.script = script
            failure = Failure(await self.failure(source))
            told += [repr(failure.value), failure.getTraceback(detail="verbose")]
            service = self.start(source)
            await until(partial(last_error, service))
            told.append(repr(service.status()))
            await service.stopService()
            self.registry = CollectorRegistry()
        told.append(self.log.getvalue())
        self.assertEqual(self.log.getvalue().count("quotes_source_failed"), 15)
        self.assertTrue(all(key in api.request for api in self.connections))
        self.assertEqual([text for text in told if KEY in text], [])


def last_error(service: QuoteService) -> str | None:
    return service.status().sources[0].last_error


def quote_of(service: QuoteService) -> Quote:
    return service.prepare(b"client")
