"""The operators' site where others can reach it: who is let in, and what strangers can do."""

from __future__ import annotations

import json
import signal
import socket
import ssl
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.running import (
    PATIENCE,
    Running,
    Server,
    run_twistd,
    test_environment,
    wait_until,
)
from wow.admin.channel import STRANGERS
from wow.test.certificates import Issued, issue

TOKEN = "correct-horse-battery-staple"
EVERYWHERE = "tcp:0"


def get(
    server: Server, path: str, tls: ssl.SSLContext | None = None, **headers: str
) -> tuple[int, str]:
    """
    The status and the body of a page.

    @raise OSError: if the server hangs up instead.
    """
    place, port = server.admin
    if tls is None:
        connection = HTTPConnection(place, port, timeout=PATIENCE)
    else:
        connection = HTTPSConnection("localhost", port, timeout=PATIENCE, context=tls)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def bearer(token: str) -> str:
    return f"Bearer {token}"


class Operators(Running):
    def put(self, content: bytes, path: Path | None = None) -> Path:
        """Have a private file with this content."""
        path = path or Path(self.mktemp()).absolute()
        new = path.with_name(f"{path.name}.new")
        new.write_bytes(content)
        new.chmod(0o600)
        new.replace(path)
        return path

    def reload(self, server: Server) -> str:
        server.events.clear()
        server.signal(signal.SIGHUP)
        wait_until(lambda: bool(server.seen("reloaded") or server.seen("reload_refused")))
        return str(server.events[-1]["event"])


class Token(Operators):
    workers = "1"

    def setUp(self) -> None:
        self.file = self.put(f"{TOKEN}\n".encode())
        self.server = self.start(
            None,
            WOW_ADMIN__LISTEN=EVERYWHERE,
            WOW_ADMIN__TOKEN=f"file:{self.file}",
            WOW_WORKERS=self.workers,
        )

    def until_ready(self) -> None:
        wait_until(lambda: get(self.server, "/health/ready")[0] == 200)

    def test_lets_in(self) -> None:
        self.until_ready()
        status, page = get(self.server, "/metrics", Authorization=bearer(TOKEN))
        self.assertEqual(status, 200)
        self.assertIn("wow_requests_total", page)

    def test_others_stay_outside_and_probes_are_told_what_they_need(self) -> None:
        self.until_ready()
        for shown in ("", bearer(TOKEN + "x")):
            for path in ("/", "/metrics", "/debug/", "/status", "/health"):
                self.assertEqual(get(self.server, path, Authorization=shown)[0], 401, path)
            self.assertEqual(get(self.server, "/health/live", Authorization=shown)[0], 200)
            status, body = get(self.server, "/health/ready", Authorization=shown)
            self.assertEqual((status, json.loads(body)), (200, {"ready": True}))
        status, body = get(self.server, "/health/ready", Authorization=bearer(TOKEN))
        self.assertEqual(json.loads(body)["reasons"], {})

    def test_is_another_after_a_reload(self) -> None:
        new = "another-token-altogether"
        self.put(new.encode(), self.file)
        self.assertEqual(get(self.server, "/metrics", Authorization=bearer(new))[0], 401)
        self.assertEqual(self.reload(self.server), "reloaded")
        self.assertEqual(get(self.server, "/metrics", Authorization=bearer(new))[0], 200)
        self.assertEqual(get(self.server, "/metrics", Authorization=bearer(TOKEN))[0], 401)

    def test_stays_when_the_new_one_cannot_be_used(self) -> None:
        self.put(b"short", self.file)
        self.assertEqual(self.reload(self.server), "reload_refused")
        self.assertIn("admin.token", self.server.events[-1]["reason"])
        self.assertEqual(get(self.server, "/metrics", Authorization=bearer(TOKEN))[0], 200)

    def test_is_in_no_output(self) -> None:
        pages = [
            get(self.server, path, Authorization=shown)[1]
            for path in ("/", "/metrics", "/health/ready", "/nothing")
            for shown in (bearer(TOKEN), bearer(TOKEN + "-wrong"))
        ]
        self.reload(self.server)
        self.server.stop()
        self.assertNotIn(TOKEN, "".join(pages) + repr(self.server.events))

    def test_silent_crowd_keeps_no_operator_out(self) -> None:
        crowd = [socket.create_connection(self.server.admin) for _ in range(2 * STRANGERS)]
        for each in crowd:
            self.addCleanup(each.close)
        self.assertEqual(get(self.server, "/metrics", Authorization=bearer(TOKEN))[0], 200)
        # Those who came first have given way; the others have some time.
        crowd[0].settimeout(PATIENCE)
        with self.assertRaises(ConnectionResetError):
            crowd[0].recv(1)
        crowd[-1].setblocking(False)
        self.assertRaises(BlockingIOError, crowd[-1].recv, 1)

    def test_body_without_end_is_not_read(self) -> None:
        with socket.create_connection(self.server.admin) as stranger:
            stranger.settimeout(PATIENCE)
            stranger.sendall(b"POST /health/live HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n")
            self.assertTrue(stranger.recv(4096).startswith(b"HTTP/1.1 413 "))
            with self.assertRaises(OSError):
                while True:
                    stranger.sendall(b"x" * 65536)


class TokenOfWorkersParent(Token):
    """The parent of many workers is asked."""

    workers = "2"


class Certificates(Operators):
    """
    @ivar authority: that operators' certificates are to be of.
    """

    workers = "1"

    def setUp(self) -> None:
        self.own = issue()
        self.pem = self.put(self.own.private + self.own.public)
        self.authority = issue("operators")
        self.trusted = self.put(self.authority.public)
        self.server = self.start(
            None,
            WOW_ADMIN__LISTEN=f"ssl:0:privateKey={self.pem}",
            WOW_ADMIN__CLIENT_CA=str(self.trusted),
            WOW_WORKERS=self.workers,
        )

    def context(self, client: Issued | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.own.public.decode())
        if client is not None:
            context.load_cert_chain(self.put(client.private + client.public))
        return context

    def of(self, authority: Issued) -> ssl.SSLContext:
        return self.context(issue("operator", issuer=authority))

    def test_lets_in(self) -> None:
        self.assertEqual(get(self.server, "/metrics", self.of(self.authority))[0], 200)

    def test_probes_need_none(self) -> None:
        self.assertEqual(get(self.server, "/health/live", self.context())[0], 200)
        self.assertEqual(get(self.server, "/metrics", self.context())[0], 403)
        self.assertEqual(get(self.server, "/", self.context(), Host="localhost")[0], 403)

    def test_not_with_any(self) -> None:
        """With one of somebody else's, its own, or for something else, there is no connection."""
        purpose = ExtendedKeyUsageOID.SERVER_AUTH
        for context in (
            self.of(issue("operators")),
            self.context(issue("operators")),
            self.context(issue("server", issuer=self.authority, purpose=purpose)),
        ):
            for path in ("/metrics", "/health/live"):
                with self.assertRaises(OSError):
                    get(self.server, path, context)
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        operator = issue("operator", issuer=self.authority, purpose=purpose)
        self.assertEqual(get(self.server, "/metrics", self.context(operator))[0], 200)

    def test_of_another_authority_after_a_reload(self) -> None:
        other = issue("others")
        self.put(other.public, self.trusted)
        self.assertEqual(self.reload(self.server), "reloaded")
        self.assertEqual(get(self.server, "/metrics", self.of(other))[0], 200)
        with self.assertRaises(OSError):
            get(self.server, "/metrics", self.of(self.authority))
        self.put(b"no certificate", self.trusted)
        self.assertEqual(self.reload(self.server), "reload_refused")
        self.assertIn("admin.client_ca", self.server.events[-1]["reason"])
        self.assertEqual(get(self.server, "/metrics", self.of(other))[0], 200)


class CertificatesOfWorkersParent(Certificates):
    workers = "2"


class Loopback(Operators):
    """Without token and certificates, only this machine reaches it, and no page from elsewhere."""

    def test_by_its_own_name_alone(self) -> None:
        server = self.start()
        self.assertEqual(get(server, "/metrics")[0], 200)
        self.assertEqual(get(server, "/metrics", Host="localhost")[0], 200)
        status, said = get(server, "/metrics", Host=f"rebound.example.org:{server.admin[1]}")
        self.assertEqual(status, 403)
        self.assertIn("localhost", said)
        self.assertEqual(get(server, "/health/live", Host="balancer")[0], 200)


class Refused(Operators):
    """Nothing listens where strangers could look."""

    def refused(self, **environ: str) -> str:
        directory = Path(self.mktemp())
        directory.mkdir()
        ended = run_twistd(directory, test_environment(environ), "-n", "--pidfile=", "wow")
        self.assertEqual(ended.returncode, 1)
        self.assertNotIn("listening", ended.stdout)
        return ended.stdout

    def test_without_anything(self) -> None:
        for workers in ("1", "2"):
            said = self.refused(WOW_ADMIN__LISTEN=EVERYWHERE, WOW_WORKERS=workers)
            self.assertEqual(said.count("\n"), 1)
            self.assertTrue(said.startswith("wow: admin.listen: may be reached from other"), said)

    def test_with_a_token_that_others_can_read(self) -> None:
        file = self.put(TOKEN.encode())
        file.chmod(0o644)
        said = self.refused(WOW_ADMIN__LISTEN=EVERYWHERE, WOW_ADMIN__TOKEN=f"file:{file}")
        self.assertIn(f"run: chmod 600 {file}", said)

    def test_with_a_token_to_be_guessed(self) -> None:
        said = self.refused(WOW_ADMIN__LISTEN=EVERYWHERE, WOW_ADMIN__TOKEN="hunter2")
        self.assertTrue(said.startswith("wow: admin.token: has 7 characters"), said)
        self.assertNotIn("hunter2", said)
