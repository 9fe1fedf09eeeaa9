"""The server over TLS, whose certificate is changed while it runs."""

from __future__ import annotations

import json
import signal
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.running import (
    PATIENCE,
    Client,
    Running,
    Server,
    run_twistd,
    solve,
    test_environment,
    wait_until,
)
from wow.test.certificates import Issued, issue

EXPIRY = 'wow_certificate_expiry_timestamp_seconds{endpoint="listen.0"}'


class Encrypted(Running):
    """
    @ivar issued: what the server shows.
    @ivar path: the file that it has it from.
    """

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.issued = issue()
        self.put(self.issued)

    def put(self, issued: Issued) -> None:
        """Have a certificate in the server's file, as a program that renews it does."""
        new = self.path.with_name("new")
        new.write_bytes(issued.private + issued.public)
        new.chmod(0o600)
        new.replace(self.path)

    def start_encrypted(self, **environ: str) -> Server:
        listen = json.dumps([f"ssl:0:interface=127.0.0.1:privateKey={self.path}"])
        settings = {"WOW_LISTEN": listen, **environ}
        return self.start(None, **settings)

    def connect_plain(self, server: Server) -> Client:
        return super().connect(server)

    def connect(self, server: Server, source: str = "127.0.0.1") -> Client:
        """Connect, and insist on the certificate that the server should show."""
        return self.trusting(server, self.issued, source)

    def trusting(self, server: Server, issued: Issued, source: str = "127.0.0.1") -> Client:
        client = super().connect(server, source)
        context = ssl.create_default_context(cadata=issued.public.decode())
        client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        self.addCleanup(client.close)
        return client


class Tls(Encrypted):
    """The same over TLS, whose transport behaves otherwise."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.start_encrypted(
            WOW_LIMITS__IDLE="1",
            WOW_LIMITS__LINGER="1",
            WOW_LIMITS__CLIENT_CONNECTIONS="2",
        )

    def test_many_exchanges(self) -> None:
        client = self.connect(self.server)
        for _ in range(20):
            self.assertEqual(client.quote()["type"], "quote")

    def test_refusal(self) -> None:
        client = self.connect(self.server)
        client.send({"type": "quote"})
        answer = client.hear()
        assert answer is not None
        self.assertEqual(answer["code"], "malformed")
        self.assertIsNone(client.hear())

    def is_reset(self) -> bool:
        """Whether a plain connection is ended at once, perhaps before it is known to be made."""
        try:
            return self.connect_plain(self.server).hear() is None
        except ConnectionResetError:
            return True

    def test_no_handshake_no_place(self) -> None:
        # Two that never shake hands have the places, for as long as silence
        # is borne; a third is refused at once.
        silent = [self.connect_plain(self.server) for _ in range(2)]
        wait_until(lambda: self.server.metric("wow_connections") == 2)
        self.assertTrue(self.is_reset())
        for client in silent:
            self.assertIsNone(client.hear())
        wait_until(lambda: self.server.metric("wow_connections") == 0)
        self.assertEqual(self.connect(self.server).quote()["type"], "quote")

    def test_stops(self) -> None:
        client = self.connect(self.server)
        challenge = client.challenge()
        self.server.signal(signal.SIGTERM)
        self.server.wait_for("draining")
        self.assertEqual(client.say(solve(challenge))["type"], "quote")
        self.assertEqual(self.server.wait(), -signal.SIGTERM)


class Renewed(Encrypted):
    def hang_up(self, server: Server, outcome: str) -> None:
        server.signal(signal.SIGHUP)
        server.wait_for(outcome)

    def test_new_connections_are_shown_the_new_one_and_old_ones_go_on(self) -> None:
        server = self.start_encrypted()
        old, before = self.connect(server), self.issued
        challenge = old.challenge()
        self.issued = issue(ends=datetime.now(UTC) + timedelta(days=30))
        self.put(self.issued)
        # Nothing happens by itself.
        self.trusting(server, before)
        self.hang_up(server, "reloaded")
        self.assertEqual(self.connect(server).quote()["type"], "quote")
        self.assertRaises(ssl.SSLCertVerificationError, self.trusting, server, before)
        self.assertEqual(old.say(solve(challenge))["type"], "quote")
        expires = self.issued.certificate.not_valid_after_utc.timestamp()
        self.assertEqual(server.metric(EXPIRY), expires)

    def test_bad_one_is_refused_with_all_that_was_to_change(self) -> None:
        configuration = Path(self.mktemp()).absolute()
        configuration.write_text("limits: {deny: []}")
        server = self.start_with(configuration)
        configuration.write_text("limits: {deny: [127.0.0.0/8]}")
        for spoil in (self.spoil_key, self.spoil_permissions, self.path.unlink):
            self.put(self.issued)
            spoil()
            server.events.clear()
            self.hang_up(server, "reload_refused")
            self.assertIn("listen.0: ", server.events[-1]["reason"])
            self.assertIn(str(self.path), server.events[-1]["reason"])
            # Neither the certificate nor the list is another.
            self.assertEqual(self.connect(server).quote()["type"], "quote")

    def start_with(self, configuration: Path) -> Server:
        listen = json.dumps([f"ssl:0:interface=127.0.0.1:privateKey={self.path}"])
        return self.start(None, "--config", str(configuration), WOW_LISTEN=listen)

    def spoil_key(self) -> None:
        self.path.write_bytes(issue().private + self.issued.public)

    def spoil_permissions(self) -> None:
        self.path.chmod(0o644)

    def test_expired_one_is_shown_all_the_same(self) -> None:
        """Clients that care refuse it; an operator is told."""
        self.put(issue(ends=datetime.now(UTC) - timedelta(hours=1)))
        server = self.start_encrypted()
        warning = server.wait_for("certificate_not_valid", endpoint="listen.0")
        self.assertIn("expired", warning["reason"])
        self.assertLess(server.metric(EXPIRY), datetime.now(UTC).timestamp())


class Started(Encrypted):
    def test_not_with_a_certificate_that_cannot_be_used(self) -> None:
        self.path.chmod(0o644)
        directory = Path(self.mktemp())
        directory.mkdir()
        environ = test_environment({"WOW_LISTEN": json.dumps([f"ssl:0:privateKey={self.path}"])})
        ended = run_twistd(directory, environ, "-n", "--pidfile=", "wow")
        self.assertEqual(ended.returncode, 1)
        self.assertEqual(
            ended.stdout,
            f"wow: listen.0: {self.path} can be read by others than its owner; "
            f"run: chmod 600 {self.path}\n",
        )

    def test_operators_too_can_have_it(self) -> None:
        server = self.start(WOW_ADMIN__LISTEN=f"ssl:0:interface=127.0.0.1:privateKey={self.path}")
        self.look(server)
        self.issued = issue()
        self.put(self.issued)
        server.signal(signal.SIGHUP)
        server.wait_for("reloaded")
        self.look(server)

    def look(self, server: Server) -> None:
        """Have a look at the operators' site, and insist on the certificate it should show."""
        context = ssl.create_default_context(cadata=self.issued.public.decode())
        with (
            socket.create_connection(server.admin, PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as operator,
        ):
            operator.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
            self.assertIn(b"200 OK", operator.recv(65536))
