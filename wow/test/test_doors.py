"""Doors are opened once, for all processes that are to let clients in."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path
from typing import Any, cast
from unittest import mock

from twisted.internet.defer import succeed
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from wow.doors import Door, Doors, DoorsToOpen, Entrances, Opener
from wow.endpoint import parse
from wow.entrance import Entrance
from wow.lifecycle import CannotStart
from wow.logs import make_logger


class Socket:
    """
    A listening socket, at a port that nobody else has.

    @ivar did: what was done to it, in order.
    """

    address: tuple[Any, ...] = ("127.0.0.1", 7777)

    def __init__(self, family: int, busy: OSError | None = None) -> None:
        self.family = family
        self.did: list[Any] = []
        self._busy = busy

    def setblocking(self, blocking: bool) -> None:
        self.did.append(("block", blocking))

    def setsockopt(self, level: int, option: int, value: object) -> None:
        self.did.append(option)

    def bind(self, address: tuple[Any, ...]) -> None:
        self.did.append("bind")
        self.address = (address[0], address[1] or 4711, *address[2:])
        if self._busy is not None:
            raise self._busy

    def listen(self, backlog: int) -> None:
        self.did.append(("listen", backlog))

    def getsockname(self) -> tuple[Any, ...]:
        return self.address

    def close(self) -> None:
        self.did.append("close")


class Opened(SynchronousTestCase):
    def setUp(self) -> None:
        self.sockets: list[Socket] = []
        self.busy: OSError | None = None
        self.logged = io.StringIO()
        self.reactor = mock.Mock()
        self.opener = self.for_processes(3)

    def for_processes(self, processes: int) -> Opener:
        return Opener(self.reactor, processes, 99, self.make_socket)

    def make_socket(self, family: int = socket.AF_INET, fileno: int | None = None) -> Socket:
        if fileno is not None:
            os.close(fileno)
        self.sockets.append(Socket(family, self.busy))
        return self.sockets[-1]

    def open(self, *endpoints: str) -> DoorsToOpen:
        log = make_logger(self.logged, "info", "json")
        parsed = {f"listen.{index}": parse(text) for index, text in enumerate(endpoints)}
        opened = DoorsToOpen(self.opener, parsed, log)
        opened.privilegedStartService()
        return opened

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.logged.getvalue().splitlines()]


class Tcp(Opened):
    def test_a_socket_for_each_process_at_the_same_port(self) -> None:
        self.open("tcp:0:interface=127.0.0.1")
        self.assertEqual([each.address for each in self.sockets], [("127.0.0.1", 4711)] * 3)
        self.assertEqual([each.did[-1] for each in self.sockets], [("listen", 99)] * 3)

    def test_each_process_has_another(self) -> None:
        door = self.open("tcp:0").opened["listen.0"]
        self.assertEqual([door.of(number) for number in range(3)], self.sockets)

    def test_the_first_is_shared_only_once_it_is_bound(self) -> None:
        # Or it would join whoever shares the port already.
        self.open("tcp:7777")
        first, *others = self.sockets
        self.assertGreater(first.did.index(socket.SO_REUSEPORT), first.did.index("bind"))
        for other in others:
            self.assertLess(other.did.index(socket.SO_REUSEPORT), other.did.index("bind"))

    def test_one_process_shares_nothing(self) -> None:
        self.opener = self.for_processes(1)
        self.open("tcp:7777")
        (only,) = self.sockets
        self.assertNotIn(socket.SO_REUSEPORT, only.did)

    def test_does_not_block_and_can_be_opened_again_at_once(self) -> None:
        self.open("tcp:7777")
        for each in self.sockets:
            self.assertIn(("block", False), each.did)
            self.assertLess(each.did.index(socket.SO_REUSEADDR), each.did.index("bind"))

    def test_ipv6(self) -> None:
        self.open(r"tcp:7777:interface=\:\:")
        self.assertEqual({each.family for each in self.sockets}, {socket.AF_INET6})
        self.assertEqual(self.sockets[0].address[:2], ("::", 7777))

    def test_beneath_its_layers(self) -> None:
        self.open("haproxy:ssl:7777")
        self.assertEqual(self.sockets[0].address[1], 7777)

    def test_is_told(self) -> None:
        self.open("tcp:0:interface=127.0.0.1")
        (event,) = self.events()
        self.assertEqual(event["event"], "listening")
        self.assertEqual((event["host"], event["port"]), ("127.0.0.1", 4711))

    def test_port_in_use(self) -> None:
        self.busy = OSError(98, "Address already in use")
        self.assertRaises(CannotStart, self.open, "ssl:7777")
        self.assertEqual([each.did[-1] for each in self.sockets], ["close"])
        (event,) = self.events()
        self.assertEqual((event["event"], event["endpoint"]), ("cannot_listen", "ssl:7777"))
        self.assertIn("in use", event["reason"])

    def test_port_that_somebody_takes_meanwhile(self) -> None:
        taken = OSError(98, "Address already in use")
        with mock.patch.object(Socket, "listen", side_effect=taken):
            self.assertRaises(CannotStart, self.open, "tcp:7777")
        self.assertEqual([each.did[-1] for each in self.sockets], ["close"] * 3)

    def test_socket_that_systemd_does_not_hand_over(self) -> None:
        self.assertRaises(CannotStart, self.open, "systemd:domain=INET:name=wow")
        self.assertIn("no such socket", self.logged.getvalue())

    def test_closing(self) -> None:
        opened = self.open("tcp:0", "tcp:0")
        self.successResultOf(opened.stopService())
        self.assertEqual([each.did[-1] for each in self.sockets], ["close"] * 6)

    def test_errors_come_as_twisteds(self) -> None:
        self.busy = OSError(98, "Address already in use")
        self.failureResultOf(self.opener.open("tcp:7777"), CannotListenError)


class Others(Opened):
    def test_unix_socket_is_twisteds_and_all_processes(self) -> None:
        port = self.reactor.listenUNIX.return_value
        port.socket = self.make_socket(socket.AF_UNIX)
        port.stopListening.return_value = succeed(None)
        opened = self.open("unix:/run/wow.sock:mode=660")
        door = opened.opened["listen.0"]
        self.assertEqual({door.of(number) for number in range(3)}, {port.socket})
        self.assertFalse(door.tcp)
        self.assertEqual(self.reactor.listenUNIX.call_args.args[0], "/run/wow.sock")
        port.stopReading.assert_called_once_with()
        self.assertEqual([event["event"] for event in self.events()], ["listening"])
        self.successResultOf(opened.stopService())
        port.stopListening.assert_called_once_with()

    def test_adopted_socket_is_all_processes(self) -> None:
        with Path(os.devnull).open() as others:
            door = self.opener.adoptStreamPort(others.fileno(), socket.AF_INET, None)
            self.successResultOf(door.close())
            self.assertIsNotNone(os.fstat(others.fileno()))
        self.assertEqual(door.sockets, tuple(self.sockets))
        self.assertEqual(self.sockets[0].did, [("listen", 99), "close"])


class Way:
    """An entrance that notes what is done to it."""

    def __init__(self, did: list[str]) -> None:
        self.open = lambda: did.append("open")
        self.close = lambda: did.append("close")


class Ways(SynchronousTestCase):
    def test_all_doors_have_one_while_it_runs(self) -> None:
        did: list[str] = []
        doors = Doors({"listen.0": Door(()), "listen.1": Door(())})
        made: list[tuple[str, Door]] = []

        def make(key: str, door: Door) -> Entrance:
            made.append((key, door))
            return cast(Entrance, Way(did))

        entrances = Entrances(doors, make)
        self.assertEqual(made, [])
        entrances.startService()
        self.assertEqual(made, list(doors.opened.items()))
        self.assertEqual(did, ["open"] * 2)
        entrances.stopService()
        self.assertEqual(did, ["open"] * 2 + ["close"] * 2)
