"""Every limit of the configuration, met by real sockets; and what else keeps a server up."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.running import (
    Client,
    Running,
    Server,
    run_twistd,
    solve,
    test_environment,
    wait_until,
)

ALICE, BOB, MALLORY = "127.0.1.1", "127.0.2.1", "127.0.3.1"
MALFORMED = b"\x00\x00\x00\x02{}"
RARELY = "0.001"
"""A rate at which nothing is forgiven while a test runs."""


def ending(client: Client) -> str:
    """What becomes of a connection: an error's code, C{closed}, or C{reset}."""
    try:
        client.socket.settimeout(60)
        length = client.socket.recv(4)
        if not length:
            return "closed"
        return str(json.loads(client.socket.recv(65536))["code"])
    except ConnectionResetError:
        return "reset"


class Limited(Running):
    def knock(self, server: Server, source: str = MALLORY) -> str:
        """Connect, say nothing, and see what becomes of it."""
        try:
            return ending(self.connect(server, source))
        except ConnectionResetError:
            return "reset"

    def served(self, server: Server, source: str = ALICE) -> bool:
        return bool(self.connect(server, source).quote()["type"] == "quote")

    def failure(self, server: Server, source: str = MALLORY) -> str:
        """Send what no client in order does, and see what becomes of it."""
        client = self.connect(server, source)
        client.socket.sendall(MALFORMED)
        return ending(client)

    def turned_away(self, server: Server, reason: str) -> float:
        return server.metric(f'wow_connections_turned_away_total{{reason="{reason}"}}')


class OfAClient(Limited):
    def test_client_connections(self) -> None:
        server = self.start(WOW_LIMITS__CLIENT_CONNECTIONS="2")
        self.connect(server, MALLORY).challenge()
        last = self.connect(server, MALLORY)
        last.challenge()
        self.assertEqual(self.knock(server), "busy")
        self.assertTrue(self.served(server))
        last.close()
        wait_until(lambda: self.turned_away(server, "connections") == 1)
        wait_until(
            lambda: self.connect(server, MALLORY).say({"type": "request"})["type"] != "error"
        )

    def test_connection_burst(self) -> None:
        server = self.start(WOW_LIMITS__CONNECTION_BURST="2", WOW_LIMITS__CONNECTION_RATE="0.01")
        for _ in range(2):
            self.connect(server, MALLORY).challenge()
        self.assertEqual(self.knock(server), "busy")
        self.assertTrue(self.served(server))
        self.assertEqual(self.turned_away(server, "connection_rate"), 1)

    def test_connection_rate(self) -> None:
        server = self.start(WOW_LIMITS__CONNECTION_BURST="1", WOW_LIMITS__CONNECTION_RATE="5")
        self.connect(server, MALLORY).challenge()
        wait_until(lambda: "code" not in self.connect(server, MALLORY).say({"type": "request"}))

    def test_challenge_burst(self) -> None:
        server = self.start(WOW_LIMITS__CHALLENGE_BURST="2", WOW_LIMITS__CHALLENGE_RATE="0.01")
        client = self.connect(server, MALLORY)
        codes = [client.say({"type": "request"}).get("code") for _ in range(3)]
        self.assertEqual(codes, [None, None, "rate_limited"])
        self.assertTrue(self.served(server))

    def test_challenge_rate(self) -> None:
        server = self.start(WOW_LIMITS__CHALLENGE_BURST="1", WOW_LIMITS__CHALLENGE_RATE="5")
        client = self.connect(server, MALLORY)
        client.challenge()
        wait_until(lambda: client.say({"type": "request"})["type"] == "challenge")

    def test_failure_burst(self) -> None:
        server = self.start(WOW_LIMITS__FAILURE_BURST="3", WOW_LIMITS__FAILURE_RATE="0.01")
        endings = [self.failure(server) for _ in range(3)]
        self.assertEqual([*endings, self.knock(server)], [*["malformed"] * 3, "busy"])
        self.assertTrue(self.served(server))
        self.assertEqual(self.turned_away(server, "failures"), 1)

    def test_failure_rate(self) -> None:
        server = self.start(WOW_LIMITS__FAILURE_BURST="1", WOW_LIMITS__FAILURE_RATE="5")
        self.assertEqual(self.failure(server), "malformed")
        wait_until(lambda: "code" not in self.connect(server, MALLORY).say({"type": "request"}))

    def test_to_say_nothing_is_a_failure(self) -> None:
        server = self.start(WOW_LIMITS__FAILURE_BURST="1", WOW_LIMITS__FAILURE_RATE=RARELY)
        self.connect(server, MALLORY).close()
        wait_until(
            lambda: self.connect(server, MALLORY).say({"type": "request"}).get("code") == "busy"
        )
        self.assertEqual(self.turned_away(server, "failures"), 1)
        self.assertTrue(self.served(server))

    def test_clients(self) -> None:
        server = self.start(WOW_LIMITS__CLIENTS="3")
        clients = [self.connect(server, f"127.0.9.{number + 1}") for number in range(10)]
        for client in clients:
            client.challenge()
        self.assertEqual(server.metric("wow_clients"), 10)
        for client in clients:
            client.close()
        wait_until(lambda: server.metric("wow_clients") == 3)


class OfAnIpv6Client(Limited):
    """There is only one such address to come from, which is enough for a little."""

    def listen(self, interface: str, **environ: str) -> Server:
        escaped = interface.replace(":", r"\:")
        listen = json.dumps([f"tcp:0:interface={escaped}"])
        return self.start(None, WOW_LISTEN=listen, **environ)

    def come(self, server: Server) -> Client:
        client = Client(("::1", server.address[1]), "::1")
        self.addCleanup(client.close)
        return client

    def test_client_connections(self) -> None:
        server = self.listen("::1", WOW_LIMITS__CLIENT_CONNECTIONS="1")
        client = self.come(server)
        self.assertEqual(client.quote()["type"], "quote")
        self.assertEqual(ending(self.come(server)), "busy")

    def test_prefix_v6(self) -> None:
        # A challenge is bound to what its server takes for the client. The
        # last bit of this address is the only one set.
        key_file = self.key_file()
        server_of = {
            bits: self.listen("::1", WOW_LIMITS__PREFIX_V6=str(bits), WOW_KEYS__FILE=key_file)
            for bits in (64, 127, 128)
        }
        for bits, outcome in ((127, "quote"), (128, "invalid_challenge")):
            answer = self.come(server_of[bits]).say(self.come(server_of[64]).solution())
            self.assertEqual(answer.get("code", answer["type"]), outcome)

    def test_ipv4_clients_of_an_ipv6_socket(self) -> None:
        server = self.listen(
            "::ffff:127.0.0.1",
            WOW_LIMITS__CLIENT_CONNECTIONS="1",
            WOW_LIMITS__NETWORK_SHARE="2",
            WOW_LIMITS__NETWORK_V4="16",
        )
        self.connect(server, ALICE).challenge()
        self.assertEqual(self.knock(server, ALICE), "busy")
        self.connect(server, BOB).challenge()
        self.assertEqual(self.knock(server, MALLORY), "busy")
        self.connect(server, "127.1.0.1").challenge()


def has_ipv6() -> bool:
    """Whether there is an IPv6 address to come from."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


if not has_ipv6():
    del OfAnIpv6Client


class OfANetwork(Limited):
    def test_network_share(self) -> None:
        server = self.start(WOW_LIMITS__CLIENT_CONNECTIONS="2", WOW_LIMITS__NETWORK_SHARE="2")
        for number in range(4):
            self.connect(server, f"127.0.3.{number + 1}").challenge()
        self.assertEqual(self.knock(server, "127.0.3.5"), "busy")
        self.assertTrue(self.served(server))

    def test_connection_burst(self) -> None:
        server = self.start(
            WOW_LIMITS__CONNECTION_BURST="2",
            WOW_LIMITS__CONNECTION_RATE=RARELY,
            WOW_LIMITS__NETWORK_SHARE="2",
        )
        for number in range(4):
            self.connect(server, f"127.0.3.{number + 1}").challenge()
        self.assertEqual(self.knock(server, "127.0.3.5"), "busy")
        self.assertEqual(self.turned_away(server, "connection_rate"), 1)
        self.assertTrue(self.served(server))

    def test_challenge_burst(self) -> None:
        server = self.start(
            WOW_LIMITS__CHALLENGE_BURST="1",
            WOW_LIMITS__CHALLENGE_RATE=RARELY,
            WOW_LIMITS__NETWORK_SHARE="2",
        )
        neighbours = [self.connect(server, f"127.0.3.{number + 1}") for number in range(3)]
        codes = [client.say({"type": "request"}).get("code") for client in neighbours]
        self.assertEqual(codes, [None, None, "rate_limited"])
        self.assertTrue(self.served(server))

    def test_failure_burst(self) -> None:
        server = self.start(
            WOW_LIMITS__FAILURE_BURST="2",
            WOW_LIMITS__FAILURE_RATE=RARELY,
            WOW_LIMITS__NETWORK_SHARE="2",
        )
        endings = [self.failure(server, f"127.0.3.{number + 1}") for number in range(4)]
        self.assertEqual(endings, ["malformed"] * 4)
        # Who has a failure of his own is held to his neighbours' as well.
        self.assertEqual(self.knock(server, "127.0.3.1"), "busy")
        self.assertEqual(self.turned_away(server, "failures"), 1)
        self.assertTrue(self.served(server, "127.0.3.5"))
        self.assertTrue(self.served(server))

    def test_no_network_share(self) -> None:
        server = self.start(WOW_LIMITS__CLIENT_CONNECTIONS="1", WOW_LIMITS__NETWORK_SHARE="0")
        for number in range(40):
            self.connect(server, f"127.0.3.{number + 1}").challenge()

    def test_network_v4(self) -> None:
        server = self.start(
            WOW_LIMITS__CLIENT_CONNECTIONS="1",
            WOW_LIMITS__NETWORK_SHARE="1",
            WOW_LIMITS__NETWORK_V4="16",
        )
        self.connect(server, ALICE).challenge()
        self.assertEqual(self.knock(server, BOB), "busy")
        self.connect(server, "127.1.0.1").challenge()


class OfAll(Limited):
    def test_connections(self) -> None:
        server = self.start(WOW_LIMITS__CONNECTIONS="2")
        first, second = self.connect(server), self.connect(server)
        first.challenge()
        second.challenge()
        first.challenge()
        self.connect(server).challenge()
        self.assertEqual(ending(second), "busy")
        self.assertEqual(first.quote()["type"], "quote")

    def test_half_begun(self) -> None:
        server = self.start(WOW_LIMITS__HALF_BEGUN="2")
        speaker = self.connect(server, ALICE)
        challenge = speaker.challenge()
        silent = [self.connect(server, MALLORY) for _ in range(5)]
        self.assertEqual([ending(client) for client in silent[:3]], ["reset"] * 3)
        self.assertEqual(server.metric("wow_connections_half_begun"), 2)
        self.assertEqual(speaker.say(solve(challenge))["type"], "quote")

    def test_explained(self) -> None:
        server = self.start(WOW_LIMITS__CLIENT_CONNECTIONS="1", WOW_LIMITS__EXPLAINED="1")
        self.connect(server, MALLORY).challenge()
        endings = [self.knock(server) for _ in range(20)]
        self.assertEqual(endings[0], "busy")
        self.assertIn("reset", endings)

    def test_backlog(self) -> None:
        server = self.start(WOW_LIMITS__BACKLOG="7")
        server.signal(signal.SIGSTOP)
        self.addCleanup(server.signal, signal.SIGCONT)
        for _ in range(7):
            self.connect(server)
        for _ in range(40):
            waiting = socket.socket()
            self.addCleanup(waiting.close)
            waiting.setblocking(False)
            waiting.connect_ex(server.address)
        # However long it waits, there is no room for this one.
        self.assertRaises(TimeoutError, socket.create_connection, server.address, 0.5)

    def test_crowd_of_silent_sockets(self) -> None:
        server = self.start(
            WOW_LIMITS__CONNECTIONS="50",
            WOW_LIMITS__HALF_BEGUN="20",
            WOW_LIMITS__FAILURE_BURST="20",
        )
        for number in range(300):
            try:
                self.connect(server, f"127.0.{10 + number // 10}.1")
            except ConnectionResetError:
                continue
            if number % 50 == 0:
                self.assertTrue(self.served(server))
        self.assertTrue(self.served(server))
        self.assertLessEqual(server.metric("wow_connections"), 50)


class OfAConnection(Limited):
    """For C{idle}, see the timeouts in L{tests.test_server}."""

    def test_exchanges(self) -> None:
        client = self.connect(self.start(WOW_LIMITS__EXCHANGES="2"))
        for _ in range(2):
            self.assertEqual(client.quote()["type"], "quote")
        self.assertEqual(client.say({"type": "request"})["code"], "busy")
        self.assertIsNone(client.hear())

    def test_frame(self) -> None:
        client = self.connect(self.start(WOW_LIMITS__FRAME="2048"))
        longest = json.dumps({"type": "request"}).ljust(2048).encode()
        client.socket.sendall(len(longest).to_bytes(4, "big") + longest)
        answer = client.hear()
        assert answer is not None
        self.assertEqual(answer["type"], "challenge")
        client.socket.sendall((2049).to_bytes(4, "big"))
        self.assertEqual(ending(client), "frame_too_large")

    def test_lifetime(self) -> None:
        server = self.start(WOW_LIMITS__LIFETIME="1", WOW_LIMITS__IDLE="1000")
        client = self.connect(server)
        self.assertEqual(ending(client), "timeout")
        self.assertIsNone(client.hear())

    def test_linger(self) -> None:
        # Without it, who reads nothing would keep a server from ever stopping.
        server = self.start(
            WOW_LIMITS__LINGER="0.1",
            WOW_LIMITS__IDLE="1000",
            WOW_LIMITS__DRAIN="0.1",
            WOW_LIMITS__EXCHANGES="1000000",
            WOW_LIMITS__FAILURE_BURST="1000000",
        )
        client = Client.__new__(Client)
        client.socket = socket.socket()
        self.addCleanup(client.close)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.connect(server.address)
        self.choke(server, client.socket)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), -signal.SIGTERM)

    def choke(self, server: Server, client: socket.socket) -> None:
        """Send requests, and read nothing, until the server cannot answer any more."""
        request = b'{"type":"request","resource":"riches"}'
        requests = (len(request).to_bytes(4, "big") + request) * 1000
        read, unsent = -1.0, b""
        client.setblocking(False)

        def choked() -> bool:
            nonlocal read, unsent
            before, read = read, server.metric('wow_requests_total{type="request"}')
            try:
                while True:
                    unsent = unsent or requests
                    unsent = unsent[client.send(unsent) :]
            except BlockingIOError:
                return read == before

        wait_until(choked)


class WhomTheOperatorKnows(Limited):
    def configured(self, **limits: Any) -> None:
        self.file.write_text(json.dumps({"limits": limits}))

    def setUp(self) -> None:
        self.file = Path(self.mktemp()).absolute()

    def begin(self, **environ: str) -> Server:
        return self.start(None, "--config", str(self.file), **environ)

    def reload(self, server: Server, event: str) -> dict[str, Any]:
        server.signal(signal.SIGHUP)
        return server.wait_for(event)

    def test_deny(self) -> None:
        self.configured(deny=["127.0.3.0/24"])
        server = self.begin()
        self.assertEqual(self.knock(server, MALLORY), "reset")
        self.assertTrue(self.served(server))
        self.assertEqual(self.turned_away(server, "denied"), 1)

    def test_allow(self) -> None:
        self.configured(allow=[ALICE], deny=["127.0.0.0/16"])
        server = self.begin(WOW_LIMITS__CLIENT_CONNECTIONS="1", WOW_LIMITS__CHALLENGE_BURST="1")
        self.assertEqual(self.knock(server, MALLORY), "reset")
        clients = [self.connect(server, ALICE) for _ in range(5)]
        for client in [*clients, *clients]:
            client.challenge()

    def test_lists_are_read_again(self) -> None:
        self.configured()
        server = self.begin()
        mallory, alice = self.connect(server, MALLORY), self.connect(server, ALICE)
        mallory.challenge()
        challenge = alice.challenge()
        self.configured(deny=[MALLORY])
        self.assertEqual(self.reload(server, "reloaded")["deny"], 1)
        self.assertEqual(ending(mallory), "reset")
        self.assertEqual(self.knock(server, MALLORY), "reset")
        self.assertEqual(alice.say(solve(challenge))["type"], "quote")

    def test_bad_lists_change_nothing(self) -> None:
        self.configured(deny=[MALLORY])
        server = self.begin()
        self.configured(deny=["127.0.3.1/24"])
        self.assertIn("limits.deny", self.reload(server, "reload_refused")["reason"])
        self.assertEqual(self.knock(server, MALLORY), "reset")
        self.assertTrue(self.served(server))

    def test_relative_file_is_found_again(self) -> None:
        # twistd goes elsewhere when it daemonizes.
        self.configured()
        elsewhere = self.file.with_name("elsewhere")
        elsewhere.mkdir()
        ended = run_twistd(
            self.file.parent,
            test_environment({}),
            f"--rundir={elsewhere}",
            f"--pidfile={elsewhere / 'pid'}",
            f"--logfile={elsewhere / 'log'}",
            "wow",
            f"--config={self.file.name}",
        )
        self.assertEqual((ended.returncode, ended.stdout), (0, ""))
        wait_until(lambda: "started" in self.logged(elsewhere / "log"))
        pid = int((elsewhere / "pid").read_text())
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        self.configured(deny=[MALLORY])
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: bool({"reloaded", "reload_refused"} & self.logged(elsewhere / "log")))
        self.assertIn("reloaded", self.logged(elsewhere / "log"))

    def logged(self, log: Path) -> set[str]:
        """The names of what a log tells of."""
        return {json.loads(line)["event"] for line in log.read_text().splitlines()}

    def test_what_needs_a_restart_is_named(self) -> None:
        self.configured()
        server = self.begin()
        self.configured(backlog=7, deny=[MALLORY])
        self.assertEqual(self.reload(server, "restart_needed")["changed"], "limits.backlog")


class Descriptors(Limited):
    """A server with few file descriptors serves fewer connections, and goes on."""

    def holding(self, server: Server, count: int) -> Iterable[Client]:
        for _ in range(count):
            try:
                yield self.connect(server, MALLORY)
            except ConnectionResetError:
                continue

    def test_fewer_connections_than_configured(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        server = self.start(WOW_LIMITS__CONNECTIONS=str(2**40))
        self.assertIn("connections", server.wait_for("few_descriptors")["meaning"])
        self.assertLess(server.metric("wow_max_connections"), hard)

    def test_soft_limit_is_raised(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        server = self.start()
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        self.assertEqual(limits, (hard, hard))

    def test_none_left(self) -> None:
        server = self.start()
        client = self.connect(server, ALICE)
        challenge = client.challenge()
        used = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 10, hard))
        crowd = list(self.holding(server, 100))
        for left_out in crowd[20:]:
            self.assertIn(ending(left_out), ("closed", "reset"))
        self.assertEqual(client.say(solve(challenge))["type"], "quote")
        for held in crowd:
            held.close()
        wait_until(lambda: server.metric("wow_connections") == 1)
        self.assertTrue(self.served(server))
        server.signal(signal.SIGTERM)
        server.wait()
        # Three for each that was left out would be hundreds.
        self.assertLess(len(server.events), 60)


class ThePrice(Limited):
    def price(self, server: Server) -> float:
        return server.metric("wow_price_hashes")

    def test_follows_the_load_and_comes_back(self) -> None:
        server = self.start(WOW_POW__LOAD="0.0001", WOW_POW__PERIOD="0.2", WOW_POW__CEILING="512")
        self.assertEqual(self.price(server), 64)
        done = threading.Event()
        payer = threading.Thread(target=self.pay, args=(server, done))
        payer.start()
        try:
            wait_until(lambda: self.price(server) == 512)
            self.assertEqual(server.metric("wow_base_price_hashes"), 64)
        finally:
            done.set()
            payer.join()
        wait_until(lambda: self.price(server) == 64)

    def pay(self, server: Server, done: threading.Event) -> None:
        while not done.is_set():
            with server.connect() as client:
                client.quote()

    def test_is_that_of_the_token(self) -> None:
        server = self.start(WOW_POW__LOAD="0.0001", WOW_POW__PERIOD="0.2", WOW_POW__CEILING="512")
        client = self.connect(server, ALICE)
        solution = client.solution()
        done = threading.Event()
        payer = threading.Thread(target=self.pay, args=(server, done))
        payer.start()
        try:
            wait_until(lambda: self.price(server) == 512)
            self.assertEqual(client.say(solution)["type"], "quote")
        finally:
            done.set()
            payer.join()

    def test_doubles_for_who_never_redeems(self) -> None:
        server = self.start()
        client = self.connect(server, MALLORY)
        efforts = [client.challenge()["round_effort"] for _ in range(40)]
        self.assertEqual((efforts[0], efforts[-1]), (16, 32))
        self.assertEqual(self.connect(server, ALICE).challenge()["round_effort"], 16)

    def test_ceiling(self) -> None:
        server = self.start(WOW_POW__CEILING="64")
        client = self.connect(server, MALLORY)
        efforts = {client.challenge()["round_effort"] for _ in range(80)}
        self.assertEqual(efforts, {16})


class WhatIsMeasured(Limited):
    def test_connections_and_whose_they_are(self) -> None:
        server = self.start(WOW_LIMITS__CONNECTIONS="50")
        self.assertEqual(server.metric("wow_max_connections"), 50)
        for source in (ALICE, ALICE, "127.0.1.9", BOB):
            self.connect(server, source).challenge()
        self.assertEqual(server.metric("wow_connections"), 4)
        self.assertEqual(server.metric("wow_clients"), 3)
        self.assertEqual(server.metric("wow_networks"), 2)


class TheLoop(Limited):
    def test_its_turns_are_measured(self) -> None:
        server = self.start()
        self.assertTrue(self.served(server))
        self.assertGreater(server.metric("wow_loop_turn_seconds_count"), 0)
        self.assertGreater(server.metric("wow_loop_turn_seconds_sum"), 0)
