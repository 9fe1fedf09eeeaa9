"""A listening socket takes no more in one go than it should, and resets whom it refuses."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from wow.entrance import prepare

PEER = IPv4Address("TCP", "192.0.2.7", 4711)
BACKLOG, AT_ONCE = 300, 32

RESET = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, True)


class Socket:
    """
    @ivar options: what was set, in order.
    @ivar backlog: what listening began with.
    """

    def __init__(self, family: int = socket.AF_INET) -> None:
        self.family = family
        self.options: list[tuple[int, int, object]] = []
        self.backlog: int | None = None

    def setsockopt(self, level: int, option: int, value: object) -> None:
        self.options.append((level, option, value))

    def listen(self, backlog: int) -> None:
        self.backlog = backlog

    def accept(self) -> tuple[Socket, object]:
        return Socket(self.family), (PEER.host, PEER.port)

    def fileno(self) -> int:
        return 3


class Port:
    """The part of Twisted's that matters."""

    def __init__(self, factory: Any, family: int = socket.AF_INET) -> None:
        self.socket: Any = Socket(family)
        self.factory = factory
        self.numberAccepts = 100

    def accept(self) -> tuple[Socket, IProtocol | None]:
        """Somebody connects; say over what, and to what."""
        accepted, _ = self.socket.accept()
        return accepted, self.factory.buildProtocol(PEER)


class Picky(Factory):
    """
    @ivar refuses: whether nobody gets a protocol.
    @ivar asked: the addresses of those who were to get one.
    """

    refuses = False

    def __init__(self) -> None:
        self.asked: list[IAddress | None] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        self.asked.append(addr)
        return None if self.refuses else Protocol()


class Prepared(SynchronousTestCase):
    def setUp(self) -> None:
        self.factory = Picky()

    def prepared(self, factory: Any = None, family: int = socket.AF_INET) -> Port:
        port = Port(factory or self.factory, family)
        prepare(port, BACKLOG)
        return port


class Listening(Prepared):
    def test_as_many_as_told_wait_in_the_kernel(self) -> None:
        self.assertEqual(self.prepared().socket.backlog, BACKLOG)

    def test_answers_are_not_held_back(self) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            self.assertEqual(self.prepared(family=family).socket.options, [NO_DELAY])

    def test_unix_sockets_have_no_such_option(self) -> None:
        self.assertEqual(self.prepared(family=socket.AF_UNIX).socket.options, [])

    def test_is_otherwise_what_it_was(self) -> None:
        port = self.prepared()
        self.assertEqual(port.socket.fileno(), 3)
        self.assertEqual(port.socket.accept()[1], (PEER.host, PEER.port))

    def test_factory_is_told_of_start_and_stop(self) -> None:
        port = self.prepared()
        port.factory.doStart()
        self.assertEqual(self.factory.numPorts, 1)
        port.factory.doStop()
        self.assertEqual(self.factory.numPorts, 0)


class AtOnce(Prepared):
    def test_only_so_many_are_accepted(self) -> None:
        self.assertEqual(self.prepared().numberAccepts, AT_ONCE)

    def test_however_many_twisted_would_like_to(self) -> None:
        port = self.prepared()
        port.numberAccepts = AT_ONCE + 20
        port.accept()
        self.assertEqual(port.numberAccepts, AT_ONCE)

    def test_fewer_if_fewer_come(self) -> None:
        port = self.prepared()
        port.numberAccepts = 1
        port.accept()
        self.assertEqual(port.numberAccepts, 1)


class Refusing(Prepared):
    def test_resets_the_connection(self) -> None:
        port = self.prepared()
        self.factory.refuses = True
        accepted, protocol = port.accept()
        self.assertIsNone(protocol)
        self.assertEqual(accepted.options, [RESET])

    def test_resets_no_other(self) -> None:
        port = self.prepared()
        before, protocol = port.accept()
        self.assertIsInstance(protocol, Protocol)
        self.factory.refuses = True
        refused, _ = port.accept()
        self.factory.refuses = False
        after, _ = port.accept()
        self.assertEqual([each.options for each in (before, refused, after)], [[], [RESET], []])

    def test_the_factory_knows_whom(self) -> None:
        self.prepared().accept()
        self.assertEqual(self.factory.asked, [PEER])


class Wrapped(Prepared):
    """In a factory that allows for no refusal, as that of TLS."""

    def test_refusal_stays_one(self) -> None:
        self.factory.refuses = True
        accepted, protocol = self.prepared(WrappingFactory(self.factory)).accept()
        self.assertIsNone(protocol)
        self.assertEqual(accepted.options, [RESET])

    def test_protocol_is_wrapped(self) -> None:
        wrapping = WrappingFactory(self.factory)
        accepted, protocol = self.prepared(wrapping).accept()
        assert isinstance(protocol, ProtocolWrapper)
        self.assertIs(protocol.factory, wrapping)
        self.assertIsInstance(protocol.wrappedProtocol, Protocol)
        self.assertEqual(accepted.options, [])
        self.assertEqual(self.factory.asked, [PEER])
