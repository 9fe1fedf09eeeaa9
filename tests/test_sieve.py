"""What the kernel drops for a server, on real sockets."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from tests.running import Client, Running, Server, wait_until
from wow.packet_filter import MOST, assemble, attach, detach
from wow.pow.token import bind, pack

ALICE, MALLORY = "127.9.9.2", "127.9.9.1"

BITS = (32, 64)

WAIT = 0.3
"""Seconds after which a packet was dropped: the sender tries again only after a second."""


def program(*addresses: str, bits: tuple[int, int] = BITS) -> bytes:
    return assemble([bind(pack(address), *bits) for address in addresses], bits)


class Programs(SynchronousTestCase):
    def listen(self, address: str, family: int = socket.AF_INET) -> socket.socket:
        dual = family == socket.AF_INET6
        listening = socket.create_server((address, 0), family=family, dualstack_ipv6=dual)
        self.addCleanup(listening.close)
        return listening

    def setUp(self) -> None:
        self.listening = self.listen("127.0.0.1")
        self.address = self.listening.getsockname()

    def connect(self, source: str, address: tuple[str, int]) -> socket.socket:
        client = socket.create_connection(address, WAIT, (source, 0))
        self.addCleanup(client.close)
        return client

    def accepted(self, source: str) -> tuple[socket.socket, socket.socket]:
        """Both ends of a connection."""
        client = self.connect(source, self.address)
        served, _ = self.listening.accept()
        self.addCleanup(served.close)
        return client, served

    def dropped(self, source: str, address: tuple[str, int] | None = None) -> bool:
        try:
            self.connect(source, address or self.address)
        except TimeoutError:
            return True
        return False

    def test_whom_they_name_cannot_connect(self) -> None:
        attach(self.listening, program(MALLORY))
        self.assertTrue(self.dropped(MALLORY))
        self.assertFalse(self.dropped(ALICE))
        detach(self.listening)
        self.assertFalse(self.dropped(MALLORY))

    def test_one_takes_the_place_of_the_other(self) -> None:
        attach(self.listening, program(MALLORY))
        attach(self.listening, program(ALICE))
        self.assertFalse(self.dropped(MALLORY))
        self.assertTrue(self.dropped(ALICE))

    def test_detaching_twice(self) -> None:
        detach(self.listening)
        detach(self.listening)

    def test_a_prefix(self) -> None:
        attach(self.listening, program(MALLORY, bits=(24, 64)))
        self.assertTrue(self.dropped(ALICE))
        self.assertFalse(self.dropped("127.9.8.1"))

    def test_open_connections_go_on(self) -> None:
        before = self.accepted(MALLORY)
        attach(self.listening, program(ALICE))
        between = self.accepted(MALLORY)
        attach(self.listening, program(MALLORY))
        for client, served in (before, between):
            client.sendall(b"ask")
            self.assertEqual(served.recv(3), b"ask")
            served.sendall(b"answer")
            self.assertEqual(client.recv(6), b"answer")

    def test_the_longest(self) -> None:
        many = [f"2001:db8:{number:x}::1" for number in range(MOST - 1)]
        attach(self.listening, program(MALLORY, *many, bits=(32, 128)))
        self.assertTrue(self.dropped(MALLORY))
        self.assertFalse(self.dropped(ALICE))

    def test_both_families_on_one_socket(self) -> None:
        if not socket.has_dualstack_ipv6():
            return
        port = self.listen("::", socket.AF_INET6)
        number = port.getsockname()[1]
        attach(port, program(MALLORY))
        self.assertTrue(self.dropped(MALLORY, ("127.0.0.1", number)))
        self.assertFalse(self.dropped(ALICE, ("127.0.0.1", number)))
        self.assertFalse(self.dropped("::1", ("::1", number)))
        attach(port, program("::1"))
        self.assertTrue(self.dropped("::1", ("::1", number)))
        self.assertFalse(self.dropped(MALLORY, ("127.0.0.1", number)))


class AServer(Running):
    def knock(self, server: Server) -> bool:
        """Connect and hang up; say whether that is possible still."""
        try:
            socket.create_connection(server.address, WAIT, (MALLORY, 0)).close()
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True

    def served(self, server: Server) -> bool:
        with Client(server.address, ALICE) as client:
            return bool(client.quote()["type"] == "quote")

    def test_who_is_turned_away_all_the_time_is_dropped(self) -> None:
        server = self.start(WOW_LIMITS__CLIENT_CONNECTIONS="1", WOW_LIMITS__SIEVE_RATE="5")
        open_before = self.connect(server, MALLORY)
        open_before.challenge()
        wait_until(lambda: not self.knock(server))
        self.assertTrue(self.served(server))
        self.assertEqual(server.metric("wow_sieved_clients"), 1)
        self.assertEqual(open_before.quote()["type"], "quote")
        self.assertEqual(server.wait_for("sieve")["clients"], 1)
