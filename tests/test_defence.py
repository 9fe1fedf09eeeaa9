"""Every limit of the configuration, met by real sockets; and what else keeps a server up."""

from __future__ import annotations

import json
import resource
import signal
import socket
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.running import Client, Running, Server, solve, wait_until

ALICE, BOB, MALLORY = "127.0.1.1", "127.0.2.1", "127.0.3.1"
MALFORMED = b"\x00\x00\x00\x02{}"


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
        endings = []
        for _ in range(4):
            client = self.connect(server, MALLORY)
            client.socket.sendall(MALFORMED)
            endings.append(ending(client))
        self.assertEqual(endings, ["malformed", "malformed", "reset", "busy"])
        self.assertTrue(self.served(server))
        self.assertEqual(self.turned_away(server, "failures"), 1)

    def test_failure_rate(self) -> None:
        server = self.start(WOW_LIMITS__FAILURE_BURST="1", WOW_LIMITS__FAILURE_RATE="5")
        client = self.connect(server, MALLORY)
        client.socket.sendall(MALFORMED)
        self.assertEqual(ending(client), "reset")
        wait_until(lambda: "code" not in self.connect(server, MALLORY).say({"type": "request"}))

    def test_clients(self) -> None:
        server = self.start(WOW_LIMITS__CLIENTS="3")
        clients = [self.connect(server, f"127.0.9.{number + 1}") for number in range(10)]
        for client in clients:
            client.challenge()
        self.assertEqual(server.metric("wow_clients"), 10)
        for client in clients:
            client.close()
        wait_until(lambda: server.metric("wow_clients") == 3)


class OfANetwork(Limited):
    def test_network_share(self) -> None:
        server = self.start(WOW_LIMITS__CLIENT_CONNECTIONS="2", WOW_LIMITS__NETWORK_SHARE="2")
        for number in range(4):
            self.connect(server, f"127.0.3.{number + 1}").challenge()
        self.assertEqual(self.knock(server, "127.0.3.5"), "busy")
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
        waiting = []
        server.signal(signal.SIGSTOP)
        self.addCleanup(server.signal, signal.SIGCONT)
        for _ in range(20):
            client = socket.socket()
            self.addCleanup(client.close)
            client.settimeout(0.2)
            try:
                client.connect(server.address)
            except TimeoutError:
                break
            waiting.append(client)
        self.assertEqual(len(waiting), 7 + 1)

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

    def test_what_needs_a_restart_is_named(self) -> None:
        self.configured()
        server = self.begin()
        self.configured(idle=7, deny=[MALLORY])
        self.assertEqual(self.reload(server, "restart_needed")["changed"], "limits.idle")


class Descriptors(Limited):
    """A server with few file descriptors serves fewer connections, and goes on."""

    def holding(self, server: Server, count: int) -> Iterable[Client]:
        for _ in range(count):
            try:
                yield self.connect(server, MALLORY)
            except ConnectionResetError:
                continue

    def test_fewer_connections_than_configured(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
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
        self.assertLess(len(server.events), 30)


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


class TheLoop(Limited):
    def test_its_turns_are_measured(self) -> None:
        server = self.start()
        self.assertTrue(self.served(server))
        self.assertGreater(server.metric("wow_loop_turn_seconds_count"), 0)
        self.assertGreater(server.metric("wow_loop_turn_seconds_sum"), 0)
