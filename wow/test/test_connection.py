"""A connection behaves as Twisted's, on a shorter way."""

from __future__ import annotations

import socket
import struct
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any
from unittest import mock

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from wow.connection import Connection, Peer
from wow.lane import Lane
from wow.test.test_lane import Poller

RESET = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Socket:
    """
    @ivar arriving: what each read gives, or raises.
    @ivar room: bytes that it takes before it is full.
    @ivar calls: what was done to it, beside reading and writing.
    """

    def __init__(self, descriptor: int = 7) -> None:
        self._descriptor = descriptor
        self.arriving: list[bytes | OSError] = []
        self.room = 10**6
        self.sent = b""
        self.broken = False
        self.calls: list[Any] = []

    def fileno(self) -> int:
        return self._descriptor

    def recv(self, most: int) -> bytes:
        data = self.arriving.pop(0) if self.arriving else BlockingIOError()
        if isinstance(data, OSError):
            raise data
        return data[:most]

    def send(self, data: bytes) -> int:
        if self.broken:
            raise BrokenPipeError
        if not self.room:
            raise BlockingIOError
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def setsockopt(self, *option: Any) -> None:
        self.calls.append(option)

    def shutdown(self, how: int) -> None:
        self.calls.append("shutdown")

    def close(self) -> None:
        self.calls.append("close")


class Noting(Protocol):
    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost: list[type[BaseException] | None] = []

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)
        if data == b"bug":
            raise ZeroDivisionError

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.append(reason.type)


class Connected(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.poller = Poller()
        self.socket = Socket()
        self.protocol = Noting()
        self.lane = Lane(self.poller, self.clock)
        accepted: Any = self.socket
        self.connection = Connection(accepted, self.protocol, ("192.0.2.7", 4711), self.lane)
        self.connection.startReading()
        self.protocol.makeConnection(self.connection)

    def arrive(self, *data: bytes | OSError, events: int = EPOLLIN) -> None:
        self.socket.arriving += data
        self.connection.ready(events)


class Reading(Connected):
    def test_what_arrives(self) -> None:
        self.arrive(b"one")
        self.arrive(b"two")
        self.assertEqual(self.protocol.received, [b"one", b"two"])

    def test_as_much_at_once_as_the_protocol_wants(self) -> None:
        self.connection.bufferSize = 3
        self.arrive(b"three")
        self.assertEqual(self.protocol.received, [b"thr"])

    def test_nothing_there(self) -> None:
        self.arrive()
        self.assertEqual((self.protocol.received, self.protocol.lost), ([], []))

    def test_data_before_the_end(self) -> None:
        self.arrive(b"last", events=EPOLLIN | EPOLLHUP)
        self.assertEqual((self.protocol.received, self.protocol.lost), ([b"last"], []))

    def test_peer_closed(self) -> None:
        self.arrive(b"")
        self.assertEqual(self.protocol.lost, [ConnectionDone])

    def test_peer_reset(self) -> None:
        self.arrive(ConnectionResetError())
        self.assertEqual(self.protocol.lost, [ConnectionLost])

    def test_peer_gone_while_reading_is_paused(self) -> None:
        for event in (EPOLLHUP, EPOLLERR):
            self.setUp()
            self.connection.pauseProducing()
            self.arrive(events=event)
            self.assertEqual(self.protocol.lost, [ConnectionLost])

    def test_bug_of_the_protocols(self) -> None:
        """It ends this connection, and is told."""
        self.arrive(b"bug")
        self.assertEqual(self.protocol.lost, [ZeroDivisionError])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Writing(Connected):
    def test_at_once(self) -> None:
        self.assertEqual(self.connection.writeSomeData(b"now"), 3)
        self.assertEqual(self.socket.sent, b"now")

    def test_full(self) -> None:
        self.socket.room = 2
        self.assertEqual(self.connection.writeSomeData(b"now"), 2)
        self.assertEqual(self.connection.writeSomeData(b"w"), 0)

    def test_broken(self) -> None:
        self.socket.broken = True
        self.assertIsInstance(self.connection.writeSomeData(b"now"), ConnectionLost)

    def test_buffered_until_there_is_room(self) -> None:
        self.socket.room = 2
        self.connection.write(b"later")
        self.assertEqual(self.poller.registered, {7: EPOLLIN | EPOLLOUT})
        self.arrive(events=EPOLLOUT)
        self.assertEqual(self.socket.sent, b"la")
        self.socket.room = 10
        self.arrive(events=EPOLLOUT)
        self.assertEqual(self.socket.sent, b"later")
        self.assertEqual(self.poller.registered, {7: EPOLLIN})

    def test_breaks_while_writing(self) -> None:
        self.connection.write(b"later")
        self.socket.broken = True
        self.arrive(events=EPOLLOUT)
        self.assertEqual(self.protocol.lost, [ConnectionLost])

    def test_lost_while_reading_writes_no_more(self) -> None:
        self.connection.write(b"later")
        self.arrive(b"", events=EPOLLIN | EPOLLOUT)
        self.assertEqual((self.socket.sent, self.protocol.lost), (b"", [ConnectionDone]))


class Closing(Connected):
    def test_after_what_is_buffered(self) -> None:
        self.connection.write(b"last words")
        self.connection.loseConnection()
        self.assertEqual(self.protocol.lost, [])
        self.arrive(events=EPOLLOUT)
        self.assertEqual(self.socket.sent, b"last words")
        self.assertEqual((self.protocol.lost, self.socket.calls), ([ConnectionDone], ["close"]))

    def test_once_only(self) -> None:
        self.arrive(b"")
        self.connection.connectionLost(Failure(ConnectionLost()))
        self.connection.loseConnection()
        self.connection.abortConnection()
        self.clock.advance(1)
        self.assertEqual(self.protocol.lost, [ConnectionDone])

    def test_abort_resets(self) -> None:
        self.connection.abortConnection()
        self.clock.advance(0)
        self.assertEqual(self.protocol.lost, [ConnectionAborted])
        self.assertEqual(self.socket.calls, [RESET, "close"])

    def test_is_no_more_awaited(self) -> None:
        """The poller is not told: the kernel sees to that when the socket is closed."""
        self.arrive(b"")
        self.poller.events = [(7, EPOLLIN)]
        self.assertEqual(self.lane.served(self.poller.poll)(1, 1), [(7, EPOLLIN)])

    def test_producer_is_told(self) -> None:
        producer = mock.Mock()
        self.connection.registerProducer(producer, True)
        self.arrive(b"")
        producer.stopProducing.assert_called_once_with()


class Addresses(Connected):
    def test_peer(self) -> None:
        self.assertEqual(self.connection.getPeer(), IPv4Address("TCP", "192.0.2.7", 4711))

    def test_transport(self) -> None:
        verifyObject(ITransport, self.connection)

    def test_peer_is_an_address(self) -> None:
        peer = Peer("192.0.2.7", 4711)
        self.assertEqual((peer.host, peer.port), ("192.0.2.7", 4711))
