"""What is sent to an API. How its answers are taken is in L{wow.test.test_quotes_sources}."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface.verify import verifyObject

from wow.http.client import Bytes, Client
from wow.http.errors import HttpFailed
from wow.test.test_quotes_sources import Endpoints

SECRET = "s3cr3t"


class Posting(SynchronousTestCase):
    """A body is sent whole, and what is sent is in no failure."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        pool = HTTPConnectionPool(self.reactor, False)
        agent = Agent.usingEndpointFactory(self.reactor, Endpoints(self.reactor), pool)
        self.client = Client(agent, self.reactor, timeout=5.0, max_bytes=100)

    def tearDown(self) -> None:
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def post(self, body: bytes, answer: bytes = b"") -> Deferred[bytes]:
        headers = Headers({"Authorization": [SECRET]})
        posted = self.client.request("POST", "http://api.example/", headers, body)
        factory: Any = self.reactor.tcpClients[-1][2]
        self.http = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.http.makeConnection(self.transport)
        self.http.dataReceived(answer)
        return posted

    def test_body(self) -> None:
        body = bytes(range(256))
        posted = self.post(body, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertEqual(self.successResultOf(posted), b"ok")
        head, _, sent = self.transport.value().partition(b"\r\n\r\n")
        self.assertEqual(sent, body)
        self.assertTrue(head.startswith(b"POST / HTTP/1.1\r\n"))
        self.assertIn(b"Content-Length: 256", head)
        self.assertIn(b"s3cr3t", head)

    def test_empty_body(self) -> None:
        posted = self.post(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.successResultOf(posted), b"")

    def test_failures_do_not_tell(self) -> None:
        for answer in (
            b"HTTP/1.1 401 s3cr3t\r\n\r\n",
            b"s3cr3t",
            b"HTTP/1.1 200 s3cr3t\r\nContent-Length: 9\r\n\r\nx",
        ):
            posted = self.post(b"s3cr3t", answer)
            self.http.connectionLost(Failure(error.ConnectionLost()))
            failure = self.failureResultOf(posted, HttpFailed)
            self.assertNotIn(SECRET, failure.getTraceback(detail="verbose"))

    def test_nobody_reads(self) -> None:
        """A server that takes the request and says nothing is left after the time-out."""
        posted = self.post(b"x")
        self.reactor.advance(5.0)
        failure = self.failureResultOf(posted, HttpFailed)
        self.assertEqual(str(failure.value), "no whole answer within 5 s")
        self.assertTrue(self.transport.disconnecting)

    def test_interface(self) -> None:
        verifyObject(IBodyProducer, Bytes(b"x"))
