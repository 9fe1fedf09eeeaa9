"""Behind a balancer that says who its clients are, on real sockets; and behind a real HAProxy."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import struct
import time
from ipaddress import ip_address
from pathlib import Path

from tests.balancer import HAProxy
from tests.running import PATIENCE, Client, Running, Server, solve, wait_until
from wow.test.certificates import issue

BALANCER, OTHER_BALANCER, STRANGER = "127.7.0.1", "127.7.0.2", "127.8.0.1"
NETWORK = "127.7.0.0/24"

ALICE, BOB, CAROL = "198.51.100.7", "203.0.113.9", "2001:db8:7::9"

LOCAL = bytes.fromhex("0D0A0D0A000D0A515549540A 20 00 0000")
UNKNOWN = b"PROXY UNKNOWN\r\n"
RARELY = "0.001"
"""A rate at which nothing is forgiven while a test runs."""


def v1(client: str) -> bytes:
    version, server = (4, "192.0.2.1") if ip_address(client).version == 4 else (6, "2001:db8::1")
    return f"PROXY TCP{version} {client} {server} 56324 7777\r\n".encode()


def v2(client: str) -> bytes:
    address = ip_address(client)
    family, server = (0x11, "192.0.2.1") if address.version == 4 else (0x21, "2001:db8::1")
    block = address.packed + ip_address(server).packed + struct.pack("!HH", 56324, 7777)
    head = struct.pack("!BBH", 0x21, family, len(block))
    return bytes.fromhex("0D0A0D0A000D0A515549540A") + head + block


class Behind(Running):
    def start_behind(self, listen: str = "tcp:0:interface=127.0.0.1", **environ: str) -> Server:
        settings = {
            "WOW_LISTEN": json.dumps([f"haproxy:{listen}"]),
            "WOW_PROXY__NETWORKS": json.dumps([NETWORK]),
            **environ,
        }
        return self.start(None, **settings)

    def through(self, server: Server, header: bytes, balancer: str = BALANCER) -> Client:
        """A client's connection, as a balancer passes it on."""
        client = self.connect(server, balancer)
        client.socket.sendall(header)
        return client

    def is_reset(self, server: Server, data: bytes, source: str) -> bool:
        """Whether a connection is ended without a word, perhaps before it is known to be made."""
        try:
            client = self.connect(server, source)
            client.socket.sendall(data)
        except ConnectionError:
            return True
        return client.hear() is None

    def refused(self, server: Server, reason: str) -> float:
        return server.metric(f'wow_proxy_refused_total{{reason="{reason}"}}')


class Believed(Behind):
    def test_both_versions_and_families(self) -> None:
        server = self.start_behind()
        for client in (ALICE, CAROL):
            for header in (v1(client), v2(client)):
                self.assertEqual(self.through(server, header).quote()["type"], "quote")
        self.assertEqual(server.metric("wow_clients"), 2)

    def test_header_and_request_in_one_packet_or_byte_by_byte(self) -> None:
        server = self.start_behind()
        request = b'\x00\x00\x00\x12{"type":"request"}'
        together = self.through(server, v2(ALICE) + request).hear()
        assert together is not None
        self.assertEqual(together["type"], "challenge")
        dripping = self.connect(server, BALANCER)
        dripping.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in v1(ALICE):
            dripping.socket.sendall(bytes([byte]))
        self.assertEqual(dripping.quote()["type"], "quote")

    def test_challenge_is_bound_to_the_client_and_not_to_the_balancer(self) -> None:
        server = self.start_behind()
        for stolen, good in ((v1(ALICE), v2(BOB)), (v2(CAROL), v1(ALICE))):
            solution = self.through(server, good).solution()
            self.assertEqual(
                self.through(server, stolen).say(solution)["code"], "invalid_challenge"
            )
            again = self.through(server, good, OTHER_BALANCER)
            self.assertEqual(again.say(solution)["type"], "quote")

    def test_challenge_that_was_asked_for_directly(self) -> None:
        server = self.start(
            WOW_LISTEN=json.dumps(
                ["haproxy:tcp:0:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"]
            ),
            WOW_PROXY__NETWORKS=json.dumps([NETWORK]),
        )
        _, proxied, plain = [e for e in server.events if e["event"] == "listening"]
        server.address = ("127.0.0.1", int(plain["port"]))
        solution = self.connect(server, "127.5.5.5").solution()
        server.address = ("127.0.0.1", int(proxied["port"]))
        self.assertEqual(self.through(server, v1("127.5.5.5")).say(solution)["type"], "quote")

    def test_limits_are_the_clients(self) -> None:
        server = self.start_behind(
            WOW_LIMITS__CHALLENGE_BURST="1", WOW_LIMITS__CHALLENGE_RATE=RARELY
        )
        self.through(server, v1(ALICE)).challenge()
        again = self.through(server, v2(ALICE), OTHER_BALANCER)
        self.assertEqual(again.say({"type": "request"})["code"], "rate_limited")
        self.through(server, v1(BOB)).challenge()

    def test_client_that_is_turned_away_is_told_as_if_it_came_itself(self) -> None:
        server = self.start_behind(WOW_LIMITS__CLIENT_CONNECTIONS="1")
        self.through(server, v1(ALICE)).challenge()
        answer = self.through(server, v1(ALICE)).hear()
        assert answer is not None
        self.assertEqual(answer["code"], "busy")
        self.through(server, v1(BOB)).challenge()

    def test_client_that_is_denied(self) -> None:
        server = self.start_behind(
            WOW_LIMITS__DENY=json.dumps([f"{ALICE}/24".replace(".7/", ".0/")])
        )
        self.assertTrue(self.is_reset(server, v1(ALICE), BALANCER))
        self.assertEqual(self.through(server, v1(BOB)).quote()["type"], "quote")

    def test_probes_are_the_balancers_own(self) -> None:
        server = self.start_behind(
            WOW_LIMITS__CHALLENGE_BURST="1", WOW_LIMITS__CHALLENGE_RATE=RARELY
        )
        self.through(server, LOCAL).challenge()
        again = self.through(server, UNKNOWN).say({"type": "request"})
        self.assertEqual(again["code"], "rate_limited")
        self.through(server, UNKNOWN, OTHER_BALANCER).challenge()

    def test_kernel_does_not_drop_the_balancer(self) -> None:
        """Even if it is turned away itself, again and again."""
        server = self.start_behind(
            WOW_LIMITS__SIEVE_RATE="1",
            WOW_LIMITS__FAILURE_BURST="1",
            WOW_LIMITS__FAILURE_RATE=RARELY,
            WOW_LIMITS__CONNECTION_BURST="10000",
        )
        line = 'wow_connections_turned_away_total{reason="failures"}'
        while server.metric("wow_sieved_clients") < 2 and server.metric(line) < 200:
            for header in (UNKNOWN, v1(ALICE)):
                self.through(server, header).close()
        began = time.monotonic()
        self.assertEqual(self.through(server, v1(BOB)).quote()["type"], "quote")
        # Whom the kernel drops, it drops for ten.
        self.assertLess(time.monotonic() - began, 9)

    def test_unix_socket(self) -> None:
        path = Path(self.mktemp()).absolute()
        server = self.start_behind(f"unix:{path}", WOW_PROXY__NETWORKS="[]")
        for header in (v1(ALICE), v2(BOB)):
            client = Client.__new__(Client)
            client.socket = socket.socket(socket.AF_UNIX)
            client.socket.settimeout(PATIENCE)
            client.socket.connect(str(path.relative_to(Path.cwd())))
            self.addCleanup(client.close)
            client.socket.sendall(header)
            self.assertEqual(client.quote()["type"], "quote")
        self.assertEqual(server.metric("wow_clients"), 2)

    def test_tls_after_the_header(self) -> None:
        issued, path = issue(), Path(self.mktemp()).absolute()
        path.write_bytes(issued.private + issued.public)
        path.chmod(0o600)
        server = self.start_behind(f"ssl:0:interface=127.0.0.1:privateKey={path}")
        context = ssl.create_default_context(cadata=issued.public.decode())
        clients = []
        for client in (ALICE, BOB):
            plain = self.through(server, v2(client))
            plain.socket = context.wrap_socket(plain.socket, server_hostname="localhost")
            self.addCleanup(plain.close)
            clients.append(plain)
        solution = clients[0].solution()
        self.assertEqual(clients[1].say(solution)["code"], "invalid_challenge")
        self.assertEqual(clients[0].say(solution)["type"], "quote")


class Disbelieved(Behind):
    def test_stranger_that_calls_itself_a_balancer(self) -> None:
        server = self.start_behind()
        for header in (v1(ALICE), v2(ALICE), LOCAL, b""):
            self.assertTrue(self.is_reset(server, header, STRANGER))
        self.assertEqual(self.refused(server, "untrusted"), 4)
        self.assertEqual(server.metric("wow_clients"), 0)

    def test_header_where_none_belongs_is_a_frame_like_any_other(self) -> None:
        server = self.start(WOW_PROXY__NETWORKS=json.dumps([NETWORK]))
        for header in (v1(ALICE), v2(ALICE)):
            answer = self.through(server, header).hear()
            assert answer is not None
            self.assertEqual(answer["code"], "frame_too_large")

    def test_client_without_its_header(self) -> None:
        server = self.start_behind()
        self.assertTrue(self.is_reset(server, b'\x00\x00\x00\x12{"type":"request"}', BALANCER))
        self.assertEqual(self.refused(server, "malformed"), 1)

    def test_dripping_header_while_others_are_served(self) -> None:
        server = self.start_behind(WOW_PROXY__TIMEOUT="1")
        others, began = 0, time.monotonic()
        dripping = self.connect(server, BALANCER)
        dripping.socket.settimeout(0.05)
        for byte in b"PROXY UNKNOWN ".ljust(106):
            try:
                dripping.socket.sendall(bytes([byte]))
                self.assertEqual(dripping.socket.recv(1), b"")
                break
            except TimeoutError:
                self.assertEqual(self.through(server, v1(ALICE)).quote()["type"], "quote")
                others += 1
            except ConnectionError:
                break
        self.assertGreater(others, 0)
        self.assertGreaterEqual(time.monotonic() - began, 1)
        self.assertEqual(self.refused(server, "timeout"), 1)

    def test_end_before_the_header(self) -> None:
        server = self.start_behind()
        self.connect(server, BALANCER).close()
        wait_until(lambda: self.refused(server, "closed") == 1)

    def test_crowd_without_headers_keeps_nobody_out(self) -> None:
        server = self.start_behind(WOW_PROXY__TIMEOUT="1000")
        crowd = [self.connect(server, BALANCER) for _ in range(600)]
        self.assertEqual(self.through(server, v1(ALICE)).quote()["type"], "quote")
        self.assertGreaterEqual(self.refused(server, "crowded"), 600 - 512)
        self.assertIsNone(crowd[0].hear())

    def test_balancers_are_read_again(self) -> None:
        settings = Path(self.mktemp()).absolute()
        settings.write_text(
            'listen: ["haproxy:tcp:0:interface=127.0.0.1"]\nproxy: {networks: [127.7.0.1]}\n'
        )
        server = self.start(
            None, "--config", str(settings), WOW_LISTEN='["haproxy:tcp:0:interface=127.0.0.1"]'
        )
        self.assertTrue(self.is_reset(server, v1(ALICE), OTHER_BALANCER))
        settings.write_text(settings.read_text().replace("127.7.0.1", "127.7.0.2"))
        server.signal(signal.SIGHUP)
        server.wait_for("reloaded")
        self.assertEqual(self.through(server, v1(ALICE), OTHER_BALANCER).quote()["type"], "quote")
        self.assertTrue(self.is_reset(server, v1(ALICE), BALANCER))
        self.assertNotIn("restart_needed", [event["event"] for event in server.events])


CONFIGURATION = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    default-server inter 200ms source {balancer}
listen v1
    bind fd@{{v1}}
    server wow 127.0.0.1:{port} send-proxy check check-send-proxy
listen v2
    bind fd@{{v2}}
    server wow 127.0.0.1:{port} send-proxy-v2 check check-send-proxy
listen without
    bind fd@{{without}}
    server wow 127.0.0.1:{port}
"""


class BehindHAProxy(Behind):
    """A real one, with its own probes, and clients with addresses of their own."""

    def setUp(self) -> None:
        self.server = self.start_behind()
        configuration = CONFIGURATION.format(balancer=BALANCER, port=self.server.address[1])
        self.haproxy = HAProxy(configuration, ("v1", "v2", "without"))
        self.addCleanup(self.haproxy.stop)

    def by(self, name: str, source: str) -> Client:
        """A client that comes by way of the balancer."""
        client = Client(self.haproxy.addresses[name], source)
        self.addCleanup(client.close)
        return client

    def test_clients_of_either_version(self) -> None:
        for name in ("v1", "v2"):
            self.assertEqual(self.by(name, "127.1.0.1").quote()["type"], "quote")
        self.assertEqual(self.refused(self.server, "malformed"), 0)

    def test_challenge_is_the_clients_on_either_way(self) -> None:
        challenge = self.by("v1", "127.1.0.1").challenge()
        self.assertEqual(
            self.by("v2", "127.1.0.2").say(solve(challenge))["code"], "invalid_challenge"
        )
        self.assertEqual(self.by("v2", "127.1.0.1").say(solve(challenge))["type"], "quote")

    def test_probes_find_it_up(self) -> None:
        opened = self.server.metric("wow_connections_opened_total")
        wait_until(lambda: self.server.metric("wow_connections_opened_total") >= opened + 6)
        for name in ("v1", "v2"):
            self.assertEqual(self.haproxy.states()[name, "wow"], ("UP", "L4OK"))
        self.assertEqual(self.refused(self.server, "malformed"), 0)

    def test_balancer_that_does_not_say_whom_it_passes_on(self) -> None:
        client = self.by("without", "127.1.0.1")
        client.send({"type": "request"})
        self.assertIsNone(client.hear())
        self.assertEqual(self.refused(self.server, "malformed"), 1)
