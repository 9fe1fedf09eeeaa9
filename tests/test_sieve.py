"""What the kernel drops for a server, on real sockets, and what is where it does not."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.running import PATIENCE, Client, Running, Server, wait_until
from wow.packet_filter import MOST, assemble, attach, detach
from wow.pow.token import bind, pack

ALICE, BOB, MALLORY = "127.9.9.2", "127.9.7.1", "127.9.9.1"

BITS = (32, 64)


def program(*addresses: str, bits: tuple[int, int] = BITS) -> bytes:
    return assemble([bind(pack(address), *bits) for address in addresses], bits)


def permitted() -> bool:
    """Whether the kernel takes a program from this process; newer ones want CAP_NET_ADMIN."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        try:
            attach(listening, program(MALLORY))
        except OSError:
            return False
    return True


PERMITTED = permitted()


class Programs(SynchronousTestCase):
    def listen(self, address: str, family: int = socket.AF_INET) -> socket.socket:
        dual = family == socket.AF_INET6
        listening = socket.create_server((address, 0), family=family, dualstack_ipv6=dual)
        self.addCleanup(listening.close)
        return listening

    def setUp(self) -> None:
        self.listening = self.listen("127.0.0.1")
        self.address = self.listening.getsockname()

    def connect(self, source: str, address: tuple[str, int] | None = None) -> socket.socket:
        client = socket.create_connection(address or self.address, PATIENCE, (source, 0))
        self.addCleanup(client.close)
        return client

    def accepted(self, source: str) -> tuple[socket.socket, socket.socket]:
        """Both ends of a connection."""
        client = self.connect(source)
        served, _ = self.listening.accept()
        self.addCleanup(served.close)
        return client, served

    def dropped(self, source: str, address: tuple[str, int] | None = None) -> bool:
        """Whether no connection is made, where one is that was begun after it: Bob's."""
        host, port = address or self.address
        knocking = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.addCleanup(knocking.close)
        knocking.setblocking(False)
        knocking.bind((source, 0))
        knocking.connect_ex((host, port))
        self.connect(BOB, ("127.0.0.1", port))
        try:
            knocking.getpeername()
        except OSError:
            return True
        return False

    def test_whom_they_name_cannot_connect(self) -> None:
        attach(self.listening, program(MALLORY))
        self.assertTrue(self.dropped(MALLORY))
        self.connect(ALICE)
        detach(self.listening)
        self.connect(MALLORY)

    def test_one_takes_the_place_of_the_other(self) -> None:
        attach(self.listening, program(MALLORY))
        attach(self.listening, program(ALICE))
        self.connect(MALLORY)
        self.assertTrue(self.dropped(ALICE))

    def test_detaching_twice(self) -> None:
        detach(self.listening)
        detach(self.listening)

    def test_a_prefix(self) -> None:
        attach(self.listening, program(MALLORY, bits=(24, 64)))
        self.assertTrue(self.dropped(ALICE))
        self.connect("127.9.8.1")

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
        self.connect(ALICE)

    def test_both_families_on_one_socket(self) -> None:
        try:
            self.listen("::1", socket.AF_INET6)
        except OSError:
            return
        port = self.listen("::", socket.AF_INET6)
        number = port.getsockname()[1]
        attach(port, program(MALLORY))
        self.assertTrue(self.dropped(MALLORY, ("127.0.0.1", number)))
        self.connect(ALICE, ("127.0.0.1", number))
        self.connect("::1", ("::1", number))
        attach(port, program("::1"))
        self.assertTrue(self.dropped("::1", ("::1", number)))
        self.connect(MALLORY, ("127.0.0.1", number))


class Knocking(Running):
    """A server that serves one connection of each client at a time, and a client that has it."""

    def begin(self, *arguments: str, **environ: str) -> Server:
        server = self.start(None, *arguments, WOW_LIMITS__CLIENT_CONNECTIONS="1", **environ)
        self.open_before = self.connect(server, MALLORY)
        self.open_before.challenge()
        return server

    def served(self, server: Server) -> bool:
        with Client(server.address, ALICE) as client:
            return bool(client.quote()["type"] == "quote")


class WhoIsTurnedAwayAllTheTime(Knocking):
    def knock_until_dropped(self, server: Server) -> None:
        def dropped() -> bool:
            # It may be dropped by now, or, in a crowd, just late.
            with contextlib.suppress(ConnectionResetError, TimeoutError):
                socket.create_connection(server.address, 0.3, (MALLORY, 0)).close()
            return server.metric("wow_sieved_clients") == 1

        wait_until(dropped)

    def test_is_dropped(self) -> None:
        server = self.begin(WOW_LIMITS__SIEVE_RATE="0.1")
        self.knock_until_dropped(server)
        self.assertTrue(self.served(server))
        self.assertEqual(self.open_before.quote()["type"], "quote")
        self.assertEqual(server.wait_for("sieve")["clients"], 1)

    def test_is_pardoned_when_the_configuration_is_read_again(self) -> None:
        file = Path(self.mktemp()).absolute()
        file.write_text("{}")
        server = self.begin("--config", str(file), WOW_LIMITS__SIEVE_RATE="0.1")
        self.knock_until_dropped(server)
        file.write_text(json.dumps({"limits": {"allow": [MALLORY]}}))
        server.signal(signal.SIGHUP)
        server.wait_for("reloaded")
        self.assertEqual(server.metric("wow_sieved_clients"), 0)
        self.assertEqual(self.connect(server, MALLORY).quote()["type"], "quote")


class NoSieve(Knocking):
    """The server goes on as it would without."""

    def ending(self, server: Server, source: str) -> str:
        """The code of the error that a silent connection ends with."""
        with Client(server.address, source) as silent:
            answer = silent.hear()
            assert answer is not None
            return str(answer["code"])

    def knock(self, server: Server) -> None:
        """Be turned away, and leave the server more time than it takes until the sieve looks."""
        self.assertEqual(self.ending(server, MALLORY), "busy")
        self.assertEqual(self.ending(server, BOB), "timeout")

    def told(self, server: Server) -> list[str]:
        """Stop a server, and say what its log tells of the sieve."""
        self.open_before.close()
        server.signal(signal.SIGTERM)
        server.wait()
        return [event["event"] for event in server.events if "sieve" in event["event"]]

    def test_where_it_is_off(self) -> None:
        server = self.begin(WOW_LIMITS__SIEVE_RATE="0", WOW_LIMITS__IDLE="1")
        self.knock(server)
        self.assertEqual(server.metric("wow_sieved_clients"), 0)
        self.assertEqual(self.told(server), [])

    def test_where_the_kernel_does_not_permit_it(self) -> None:
        server = self.begin(
            WOW_LIMITS__SIEVE_RATE="0.001", WOW_LIMITS__IDLE="1", **self.forbidding()
        )
        for _ in range(2):
            self.knock(server)
            self.assertTrue(self.served(server))
        self.assertEqual(server.metric("wow_sieved_clients"), 0)
        self.assertIn("CAP_NET_ADMIN", server.wait_for("sieve_off")["remedy"])
        self.assertEqual(self.told(server), ["sieve_off"])

    def forbidding(self) -> dict[str, str]:
        """What has a server meet a kernel that does not; perhaps it is there already."""
        if not PERMITTED:
            return {}
        fault = Path(self.mktemp()).absolute()
        fault.mkdir()
        (fault / "sitecustomize.py").write_text(
            "import wow.packet_filter\n"
            "def attach(*_):\n"
            "    raise PermissionError(1, 'Operation not permitted')\n"
            "wow.packet_filter.attach = attach\n"
        )
        return {"PYTHONPATH": str(fault)}


if not PERMITTED:
    # What is left to promise is in NoSieve.
    del Programs, WhoIsTurnedAwayAllTheTime
