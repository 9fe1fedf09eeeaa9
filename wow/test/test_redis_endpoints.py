"""A Redis server is reached by its name, or by asking Sentinels which it is."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from wow.redis import certificates
from wow.redis.endpoints import SentinelEndpoint, endpoint_for
from wow.redis.errors import RedisFailed
from wow.redis.location import parse
from wow.test.certificates import issue
from wow.test.test_redis_connection import bulk, command
from wow.test.test_redis_pool import Endpoint, Transport

ONE = ("one", 26379)
TWO = ("two", 26379)
MASTER = ("192.0.2.1", 6379)

KNOWN = b"*2\r\n" + bulk(b"192.0.2.1") + bulk(b"6379")
UNKNOWN = b"*-1\r\n"


class Asked(SynchronousTestCase):
    """
    Two Sentinels, and a master that one has to ask for.

    @ivar endpoints: what was asked for, by host and port.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoints: dict[tuple[str, int], Endpoint] = {}
        self.endpoint = SentinelEndpoint(
            (ONE, TWO), "wisdom", lambda *place: self.endpoint_of(*place), 0.5, self.clock
        )
        self.connecting = self.endpoint.connect(Factory.forProtocol(Protocol))

    def endpoint_of(self, host: str, port: int) -> Endpoint:
        return self.endpoints.setdefault((host, port), Endpoint())

    def answer(self, sentinel: tuple[str, int], answer: bytes) -> Transport:
        transport = self.endpoints[sentinel].accept()
        self.assertEqual(
            transport.value(), command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "wisdom")
        )
        protocol = transport.protocol
        assert protocol is not None
        protocol.dataReceived(answer)
        for _ in range(3):
            self.clock.advance(0)
        return transport

    def test_connects_to_the_master(self) -> None:
        transport = self.answer(ONE, KNOWN)
        self.assertIsNone(transport.protocol)
        self.endpoints[MASTER].accept()
        protocol: IProtocol = self.successResultOf(self.connecting)
        self.assertIsInstance(protocol, Protocol)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_next_sentinel(self) -> None:
        self.endpoints[ONE].refuse()
        self.answer(TWO, KNOWN)
        self.assertIn(MASTER, self.endpoints)

    def test_one_that_does_not_know_it(self) -> None:
        self.answer(ONE, UNKNOWN)
        self.answer(TWO, KNOWN)
        self.assertIn(MASTER, self.endpoints)

    def test_one_that_is_slow(self) -> None:
        self.endpoints[ONE].accept()
        self.clock.advance(0.5)
        self.answer(TWO, KNOWN)
        self.assertIn(MASTER, self.endpoints)

    def test_one_that_talks_nonsense(self) -> None:
        for nonsense in (
            b"-ERR no\r\n",
            b":1\r\n",
            b"*1\r\n:1\r\n",
            KNOWN.replace(b"6379", b"port"),
        ):
            self.setUp()
            self.answer(ONE, nonsense)
            self.answer(TWO, KNOWN)
            self.assertIn(MASTER, self.endpoints)

    def test_the_one_that_answered_is_asked_first_the_next_time(self) -> None:
        self.endpoints[ONE].refuse()
        self.answer(TWO, KNOWN)
        self.endpoint.connect(Factory.forProtocol(Protocol))
        self.assertEqual(len(self.endpoints[TWO].attempts), 1)
        self.assertEqual(len(self.endpoints[ONE].attempts), 0)

    def test_none_knows_it(self) -> None:
        self.endpoints[ONE].refuse()
        self.answer(TWO, UNKNOWN)
        failure = self.failureResultOf(self.connecting, RedisFailed)
        self.assertIn("no Sentinel knows the master wisdom", str(failure.value))
        for sentinel in ("one:26379", "two:26379"):
            self.assertIn(sentinel, str(failure.value))

    def test_master_cannot_be_reached(self) -> None:
        self.answer(ONE, KNOWN)
        self.endpoints[MASTER].refuse()
        self.failureResultOf(self.connecting)

    def test_cancelled(self) -> None:
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.assertNotIn(TWO, self.endpoints)

    def test_interface(self) -> None:
        verifyObject(IStreamClientEndpoint, self.endpoint)


class Reaching(SynchronousTestCase):
    def test_plain(self) -> None:
        endpoint = endpoint_for(parse("redis://valkey:6380"), None, 0.5, MemoryReactorClock())
        self.assertIsInstance(endpoint, HostnameEndpoint)
        self.assertIn("valkey:6380", repr(endpoint))

    def test_encrypted(self) -> None:
        endpoint = endpoint_for(parse("rediss://valkey"), None, 0.5, MemoryReactorClock())
        self.assertNotIsInstance(endpoint, HostnameEndpoint)

    def test_sentinels(self) -> None:
        location = parse("redis+sentinel://one,two/wisdom")
        endpoint = endpoint_for(location, None, 0.5, MemoryReactorClock())
        self.assertIsInstance(endpoint, SentinelEndpoint)


class Certificates(SynchronousTestCase):
    def refusal(self, content: bytes | None) -> str:
        path = Path(self.mktemp())
        if content is not None:
            path.write_bytes(content)
        refusal = str(self.assertRaises(ValueError, certificates.read, path))
        self.assertIn(str(path), refusal)
        return refusal

    def test_all_of_them_are_trusted(self) -> None:
        path = Path(self.mktemp())
        pem = issue().public
        path.write_bytes(b"# one\n" + pem + b"# another\n" + issue().public)
        certificates.read(path)
        endpoint_for(parse("rediss://valkey"), path, 0.5, MemoryReactorClock())
        path.write_bytes(pem + pem[:-60])
        self.assertRaises(ValueError, certificates.read, path)

    def test_none(self) -> None:
        self.assertIn("cannot be read", self.refusal(None))
        self.assertIn("no certificate", self.refusal(b"-----BEGIN PRIVATE KEY-----\n"))

    def test_broken(self) -> None:
        broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        self.assertIn("is none", self.refusal(broken))
