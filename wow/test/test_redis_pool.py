"""Connections to a Redis server are made again whenever they end."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from wow.redis.connection import Connection, Login
from wow.redis.errors import Declined
from wow.redis.pool import Pool, _Watched


@implementer(IStreamClientEndpoint)
class Endpoint:
    """
    Attempts to connect, which the test decides.

    @ivar attempts: those under way.
    """

    def __init__(self) -> None:
        self.attempts: list[tuple[IProtocolFactory, Deferred[IProtocol]]] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        attempt: Deferred[IProtocol] = Deferred()
        self.attempts.append((protocolFactory, attempt))
        return attempt

    def accept(self) -> Transport:
        factory, attempt = self.attempts.pop(0)
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 6379))
        assert protocol is not None
        transport = Transport(protocol)
        protocol.makeConnection(transport)
        attempt.callback(protocol)
        return transport

    def refuse(self) -> None:
        _, attempt = self.attempts.pop(0)
        attempt.errback(ConnectError(string="refused"))


class Transport(StringTransport):
    """One whose peer does not take part in ending it in order, so that only a reset does."""

    def __init__(self, protocol: IProtocol) -> None:
        super().__init__()
        self.protocol: IProtocol | None = protocol

    def end(self) -> None:
        if self.protocol is not None:
            protocol, self.protocol = self.protocol, None
            protocol.connectionLost(Failure(ConnectionDone()))

    abortConnection = end

    def loseConnection(self) -> None:
        pass


class Pooled(SynchronousTestCase):
    """
    A pool of two, with all jitter that there is.

    @ivar changes: how often the pool told of one.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.changes = 0
        self.refusal: Exception | None = None
        self.pool = Pool(self.endpoint, 2, Login(None, None, 0), 0.5, self.clock, lambda: 1.0)
        self.pool.start(self.greet, self.changed)

    async def greet(self, connection: Connection) -> None:
        if self.refusal is not None:
            raise self.refusal

    def changed(self) -> None:
        self.changes += 1

    def connect(self) -> Transport:
        """Have the next attempt succeed, and the connection become ready."""
        transport = self.endpoint.accept()
        self.hear(transport)
        return transport

    def hear(self, transport: Transport) -> None:
        assert transport.protocol is not None
        transport.protocol.dataReceived(b"$0\r\n\r\n")

    def test_connects_as_often_as_it_is_to(self) -> None:
        self.assertEqual(len(self.endpoint.attempts), 2)
        self.assertIsNone(self.pool.pick())
        self.connect()
        self.connect()
        self.assertEqual((len(self.pool), self.changes), (2, 2))
        self.clock.advance(10)
        self.assertEqual(self.endpoint.attempts, [])

    def test_not_ready_before_it_has_been_greeted(self) -> None:
        transport = self.endpoint.accept()
        self.assertEqual(len(self.pool), 0)
        self.hear(transport)
        self.assertEqual(len(self.pool), 1)

    def test_picks_the_one_with_the_least_to_do(self) -> None:
        self.connect()
        first = self.pool.pick()
        assert first is not None
        self.assertIs(self.pool.pick(), first)
        self.connect()
        first.ping()
        self.assertIsNot(self.pool.pick(), first)

    def test_idle_ones_are_picked_by_turns(self) -> None:
        for _ in range(2):
            self.connect()
        picked = [self.pool.pick() for _ in range(4)]
        self.assertEqual(picked[:2], picked[2:])
        self.assertIsNot(picked[0], picked[1])

    def test_refused_and_tried_again_without_end(self) -> None:
        for _ in range(5):
            self.endpoint.refuse()
            self.endpoint.refuse()
            self.assertIn("refused", str(self.pool.failure))
            self.clock.advance(0.99)
            self.assertEqual(self.endpoint.attempts, [])
            self.clock.advance(0.02)
            self.assertEqual(len(self.endpoint.attempts), 2)
        self.assertEqual(self.changes, 10)

    def test_lost_and_made_again(self) -> None:
        transport = self.connect()
        transport.end()
        self.assertEqual((len(self.pool), self.changes), (0, 2))
        self.assertIn("closed cleanly", str(self.pool.failure))
        self.clock.advance(1)
        self.assertEqual(len(self.endpoint.attempts), 2)

    def test_greeting_refused_and_tried_again(self) -> None:
        self.refusal = Declined("OOM")
        self.connect()
        self.assertEqual((len(self.pool), self.pool.failure), (0, "OOM"))
        self.clock.advance(1)
        self.refusal = None
        self.connect()
        self.assertEqual(len(self.pool), 1)

    def test_keeps_those_that_are_wanted(self) -> None:
        self.connect()
        kept = self.pool.pick()
        self.connect()
        self.pool.keep(lambda connection: connection is kept)
        self.assertEqual((len(self.pool), self.pool.pick()), (1, kept))
        self.clock.advance(1)
        self.connect()
        self.assertEqual(len(self.pool), 2)

    def test_stopped(self) -> None:
        ready = self.connect()
        self.clock.advance(1)
        self.connect().end()
        stopping = self.pool.stop()
        self.assertIsNone(ready.protocol)
        self.successResultOf(stopping)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(10)
        self.assertEqual(self.endpoint.attempts, [])

    def test_stopped_while_connecting_and_greeting(self) -> None:
        self.endpoint.accept()
        self.successResultOf(self.pool.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_endpoint(self) -> None:
        verifyObject(IStreamClientEndpoint, _Watched(self.endpoint, lambda _: None))
