"""An entrance takes no more in one go than it should, and resets whom it refuses."""

from __future__ import annotations

import socket
from itertools import count
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow import entrance
from wow.connection import Connection, Peer
from wow.entrance import Entrance
from wow.lane import Lane
from wow.test import test_connection
from wow.test.test_connection import RESET, Noting
from wow.test.test_lane import Poller

PEER = ("192.0.2.7", 4711)
BACKLOG, AT_ONCE = 300, 32
NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, True)


class Listening(test_connection.Socket):
    """
    @ivar waiting: those who want to connect, with their addresses, or what happens instead.
    @ivar backlog: what listening began with.
    """

    def __init__(self, family: int = socket.AF_INET) -> None:
        super().__init__()
        self.family = family
        self.waiting: list[tuple[Any, Any] | OSError] = []
        self.backlog: int | None = None

    def listen(self, backlog: int) -> None:
        self.backlog = backlog

    def accept(self) -> tuple[Any, Any]:
        found = self.waiting.pop(0) if self.waiting else BlockingIOError(11, "nobody there")
        if isinstance(found, OSError):
            raise found
        return found


class Picky(Factory):
    """
    @ivar refuses: whether nobody gets a protocol.
    @ivar asked: the addresses of those who were to get one.
    """

    refuses = False

    def __init__(self) -> None:
        self.asked: list[IAddress | None] = []
        self.built: list[Noting] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        self.asked.append(addr)
        if self.refuses:
            return None
        self.built.append(Noting())
        return self.built[-1]


class Entering(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(entrance, "_Listening", lambda listening: listening)
        self.poller = Poller()
        self.lane = Lane(self.poller, Clock())
        self.factory = Picky()
        self.descriptors = count(10)
        self.listening = Listening()

    def open(self, factory: Any = None, family: int = socket.AF_INET) -> Entrance:
        self.listening.family = family
        listening: Any = self.listening
        way_in = Entrance(listening, factory or self.factory, self.lane, BACKLOG)
        way_in.open()
        return way_in

    def come(self, number: int = 1, peer: Any = PEER) -> list[test_connection.Socket]:
        """So many connect, and the event loop turns once."""
        come = [test_connection.Socket(next(self.descriptors)) for _ in range(number)]
        self.listening.waiting += [(each, peer) for each in come]
        self.turn()
        return come

    def turn(self) -> None:
        self.poller.events = [(self.listening.fileno(), 1)]
        self.lane.served(self.poller.poll)(0, 1)


class Opening(Entering):
    def test_as_many_as_told_wait_in_the_kernel(self) -> None:
        self.open()
        self.assertEqual(self.listening.backlog, BACKLOG)

    def test_answers_are_not_held_back(self) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            self.setUp()
            self.open(family=family)
            self.assertEqual(self.listening.calls, [NO_DELAY])

    def test_unix_sockets_have_no_such_option(self) -> None:
        self.open(family=socket.AF_UNIX)
        self.assertEqual(self.listening.calls, [])

    def test_closed(self) -> None:
        self.open().close()
        self.come()
        self.assertEqual(self.factory.asked, [])


class Accepting(Entering):
    def test_factory_knows_whom(self) -> None:
        self.open()
        self.come()
        self.assertEqual(self.factory.asked, [Peer(*PEER)])

    def test_ipv6(self) -> None:
        self.open(family=socket.AF_INET6)
        self.come(peer=("2001:db8::1", 4711, 0, 0))
        self.assertEqual(self.factory.asked, [Peer("2001:db8::1", 4711)])

    def test_unix_socket_has_no_address(self) -> None:
        self.open(family=socket.AF_UNIX)
        self.come(peer="")
        self.assertEqual(self.factory.asked, [Peer(None, 0)])

    def test_connection_is_made(self) -> None:
        self.open()
        self.come()
        self.assertIsInstance(self.factory.built[0].transport, Connection)

    def test_what_was_sent_already_is_read_at_once(self) -> None:
        self.open()
        early = test_connection.Socket(10)
        early.arriving = [b"hello"]
        self.listening.waiting = [(early, PEER)]
        self.turn()
        self.assertEqual(self.factory.built[0].received, [b"hello"])

    def test_only_so_many_at_once(self) -> None:
        self.open()
        self.come(AT_ONCE + 5)
        self.assertEqual(len(self.factory.asked), AT_ONCE)
        self.turn()
        self.assertEqual(len(self.factory.asked), AT_ONCE + 5)

    def test_one_that_is_gone_again_keeps_nobody_out(self) -> None:
        self.open()
        self.listening.waiting = [PermissionError(1, "Operation not permitted")]
        self.come()
        self.assertEqual(len(self.factory.asked), 1)

    def test_kernel_that_is_at_a_loss(self) -> None:
        self.open()
        self.listening.waiting = [OSError(5, "Input/output error")]
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_bug_is_told(self) -> None:
        self.patch(self.factory, "buildProtocol", lambda addr: 1 / 0)
        self.open()
        (socket,) = self.come()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(socket.calls, [RESET, "close"])


class Refusing(Entering):
    def test_resets_the_connection(self) -> None:
        self.open()
        self.factory.refuses = True
        (refused,) = self.come()
        self.assertEqual(refused.calls, [RESET, "close"])

    def test_resets_no_other(self) -> None:
        self.open()
        (before,) = self.come()
        self.factory.refuses = True
        (refused,) = self.come()
        self.factory.refuses = False
        (after,) = self.come()
        self.assertEqual(
            [each.calls for each in (before, refused, after)], [[], [RESET, "close"], []]
        )
