"""A balancer's word is believed, nobody else's, and then it is as if the client had come itself."""

from __future__ import annotations

import io
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wow.connection import Peer
from wow.logs import make_logger
from wow.metrics import Metrics
from wow.networks import Networks
from wow.pow.token import pack
from wow.proxy import REASONS
from wow.proxy.layer import ProxyLayer
from wow.proxy.waiting import WaitingRoom

BALANCER = Peer("192.0.2.1", 4000)
STRANGER = Peer("203.0.113.9", 4000)
CLIENT = Peer("198.51.100.7", 5000)

V1 = b"PROXY TCP4 198.51.100.7 192.0.2.2 5000 7777\r\n"
V2 = bytes.fromhex("0D0A0D0A000D0A515549540A 21 11 000C C6336407 C0000202 1388 1E61")
LOCAL = bytes.fromhex("0D0A0D0A000D0A515549540A 20 00 0000")
UNKNOWN = b"PROXY UNKNOWN\r\n"

PLACES, WITHIN = 3, 5.0
USUAL_SIZE = 2**16


def packed(peer: Peer) -> bytes:
    return pack(peer.host)


class Wire(StringTransport):
    """A connection's transport, which hands what comes to whatever protocol it has."""

    bufferSize = USUAL_SIZE
    aborted = False
    protocol: Any

    def deliver(self, data: bytes) -> None:
        """Bytes come, in pieces as the transport reads them."""
        while data and not self.aborted:
            piece, data = data[: self.bufferSize], data[self.bufferSize :]
            self.protocol.dataReceived(piece)

    def abortConnection(self) -> None:
        assert not self.aborted
        self.aborted = True
        self.lose()

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Served(Protocol):
    """
    @ivar heard: what came.
    @ivar lost: whether the connection was.
    @ivar size: the transport's, when the connection was made.
    """

    transport: Any
    heard = b""
    lost = False

    def connectionMade(self) -> None:
        self.size = self.transport.bufferSize

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


class Serving(Factory):
    """
    @ivar refuses: whether nobody gets a protocol.
    @ivar asked: for whom a protocol was to be.
    """

    refuses = False

    def __init__(self) -> None:
        self.asked: list[IAddress | None] = []

    def buildProtocol(self, addr: IAddress | None) -> Served | None:
        self.asked.append(addr)
        return None if self.refuses else Served()


class Behind(SynchronousTestCase):
    """A layer that believes the balancers of 192.0.2.0/24 and 2001:db8::/32."""

    def setUp(self) -> None:
        self.build()

    def build(self) -> None:
        self.clock, self.metrics, self.logged = Clock(), Metrics(), io.StringIO()
        self.factory = Serving()
        self.turned_away: list[bytes] = []
        self.layer = ProxyLayer(
            self.factory,
            Networks(["192.0.2.0/24", "2001:db8::/32"]),
            WaitingRoom(PLACES, WITHIN, self.clock),
            self.metrics.proxy_refused,
            self.turned_away.append,
            make_logger(self.logged, "debug", "json"),
        )

    def connect(self, peer: IAddress = BALANCER) -> Wire:
        protocol = self.layer.buildProtocol(peer)
        assert protocol is not None
        wire = Wire(peerAddress=peer)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        return wire

    def refused(self) -> dict[str, int]:
        """How many were, by reason."""
        counted = {reason: tally.count for reason, tally in self.metrics.proxy_refused.items()}
        return {reason: count for reason, count in counted.items() if count}

    def check_refused(self, wire: Wire, reason: str) -> None:
        self.assertTrue(wire.aborted)
        self.assertEqual(wire.value(), b"")
        self.assertEqual(self.factory.asked, [])
        self.assertEqual(self.refused(), {reason: 1})


class Believed(Behind):
    def served(self, wire: Wire) -> Served:
        served = wire.protocol
        assert isinstance(served, Served)
        return served

    def test_client_of_the_header(self) -> None:
        for header in (V1, V2):
            self.connect().deliver(header)
            self.assertEqual(self.factory.asked.pop(), CLIENT)
        self.assertEqual(self.refused(), {})

    def test_client_without_a_header_is_the_balancer(self) -> None:
        """As with its probes."""
        for header in (LOCAL, UNKNOWN):
            self.connect().deliver(header)
            self.assertIs(self.factory.asked.pop(), BALANCER)

    def test_from_every_trusted_address(self) -> None:
        for peer in (
            Peer("192.0.2.255", 1),
            Peer("2001:db8::1", 1),
            Peer("::ffff:192.0.2.1", 1),
            Peer(None, 0),
        ):
            self.connect(peer).deliver(V1)
            self.assertEqual(self.factory.asked.pop(), CLIENT)

    def test_nobody_is_asked_before_the_header_is_whole(self) -> None:
        wire = self.connect()
        wire.deliver(V1[:-1])
        self.assertEqual(self.factory.asked, [])
        wire.deliver(V1[-1:])
        self.assertEqual(self.factory.asked, [CLIENT])

    def test_what_comes_with_the_header_is_handed_on_at_once(self) -> None:
        wire = self.connect()
        wire.deliver(V2 + b"hello")
        self.assertEqual(self.served(wire).heard, b"hello")

    def test_nothing_is_between_client_and_server_then(self) -> None:
        wire = self.connect()
        wire.deliver(V1)
        served = self.served(wire)
        self.assertIs(served.transport, wire)
        wire.deliver(b"and so on")
        self.assertEqual(served.heard, b"and so on")
        wire.lose()
        self.assertTrue(served.lost)
        self.assertEqual(self.refused(), {})

    def test_a_header_is_all_that_is_read_while_it_is_awaited(self) -> None:
        wire = self.connect()
        self.assertLess(wire.bufferSize, 4096)
        wire.deliver(V1 + b"x" * 10_000)
        served = self.served(wire)
        self.assertEqual((served.size, served.heard), (USUAL_SIZE, b"x" * 10_000))

    def test_a_second_header_is_the_clients_own_words(self) -> None:
        wire = self.connect()
        wire.deliver(V1 + UNKNOWN)
        self.assertEqual(self.served(wire).heard, UNKNOWN)
        self.assertEqual(self.factory.asked, [CLIENT])

    def test_refusal_of_a_client_is_a_reset(self) -> None:
        self.factory.refuses = True
        for header in (V1, V2 + b"hello"):
            wire = self.connect()
            wire.deliver(header)
            self.assertTrue(wire.aborted)
        # Who is refused then, and why, is not for this layer to say.
        self.assertEqual((self.refused(), self.turned_away), ({}, []))

    def test_waits_no_longer(self) -> None:
        wire = self.connect()
        wire.deliver(V1)
        self.clock.advance(WITHIN)
        self.assertFalse(wire.aborted)
        for _ in range(PLACES):
            self.connect()
        self.assertFalse(wire.aborted)

    def test_lists_of_balancers_may_change(self) -> None:
        self.layer.trusted = Networks(["203.0.113.9"])
        self.connect(STRANGER).deliver(V1)
        self.assertEqual(self.factory.asked, [CLIENT])
        self.assertIsNone(self.layer.buildProtocol(BALANCER))

    @given(
        st.sampled_from([(V1, CLIENT), (V2, CLIENT), (LOCAL, BALANCER), (UNKNOWN, BALANCER)]),
        st.binary(max_size=3000),
        st.lists(st.integers(1, 40)),
    )
    def test_in_any_pieces(
        self, header: tuple[bytes, IAddress], rest: bytes, sizes: list[int]
    ) -> None:
        self.build()
        wire, data = self.connect(), header[0] + rest
        for size in sizes:
            wire.deliver(data[:size])
            data = data[size:]
        wire.deliver(data)
        self.assertEqual(self.factory.asked, [header[1]])
        self.assertEqual(self.served(wire).heard, rest)


class Strangers(Behind):
    def test_are_refused_before_anything_is_read(self) -> None:
        self.assertIsNone(self.layer.buildProtocol(STRANGER))
        self.assertEqual(self.refused(), {"untrusted": 1})
        self.assertEqual(self.turned_away, [packed(STRANGER)])
        self.assertEqual(len(self.layer.room), 0)

    def test_of_any_family(self) -> None:
        for host in ("2001:db9::1", "::1", "::ffff:203.0.113.9", "fe80::1%eth0"):
            self.assertIsNone(self.layer.buildProtocol(Peer(host, 1)))


class Disbelieved(Behind):
    def test_no_header(self) -> None:
        wire = self.connect()
        wire.deliver(b"\x00\x00\x00\x12{}")
        self.check_refused(wire, "malformed")
        self.assertEqual(self.turned_away, [packed(BALANCER)])

    def test_header_without_end(self) -> None:
        wire = self.connect()
        wire.deliver(b"PROXY UNKNOWN ".ljust(200, b"x"))
        self.check_refused(wire, "too_long")

    def test_header_that_drips(self) -> None:
        wire = self.connect()
        for index in range(int(WITHIN)):
            wire.deliver(V1[index : index + 1])
            self.clock.advance(1)
        self.check_refused(wire, "timeout")

    def test_silence(self) -> None:
        wire = self.connect()
        self.clock.advance(WITHIN)
        self.check_refused(wire, "timeout")

    def test_crowd(self) -> None:
        first, *_, last = [self.connect() for _ in range(PLACES + 1)]
        self.check_refused(first, "crowded")
        self.assertFalse(last.aborted)

    def test_end_before_that_of_the_header(self) -> None:
        """As of a probe that only connects: worth counting, not worth telling."""
        wire = self.connect()
        wire.deliver(V1[:7])
        wire.lose()
        self.assertEqual((self.refused(), self.turned_away), ({"closed": 1}, []))
        self.assertEqual(len(self.layer.room), 0)

    def test_frees_the_place(self) -> None:
        for _ in range(PLACES):
            self.connect().deliver(b"x")
        self.assertEqual(len(self.layer.room), 0)
        self.clock.advance(WITHIN)
        self.assertEqual(self.refused(), {"malformed": PLACES})

    @given(st.binary(max_size=300), st.integers(1, 300))
    def test_any_bytes(self, data: bytes, size: int) -> None:
        self.build()
        wire = self.connect()
        for start in range(0, len(data), size):
            wire.deliver(data[start : start + size])
        self.clock.advance(WITHIN)
        self.assertTrue(wire.aborted)
        self.assertEqual(sum(self.refused().values()), 1)


class Told(Behind):
    def test_each_refusal_to_those_who_debug(self) -> None:
        self.layer.buildProtocol(STRANGER)
        line = json.loads(self.logged.getvalue())
        del line["timestamp"]
        self.assertEqual(
            line,
            {
                "event": "proxy_refused",
                "level": "debug",
                "reason": "untrusted",
                "peer": STRANGER.host,
            },
        )

    def test_every_reason_is_counted_from_the_start(self) -> None:
        page = generate_latest(self.metrics.registry).decode()
        for reason in REASONS:
            self.assertIn(f'wow_proxy_refused_total{{reason="{reason}"}} 0.0', page)
