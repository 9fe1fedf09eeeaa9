"""
The server as systemd runs it, with C{deploy/systemd/wow.yaml}: handed its
socket and its key, and telling what becomes of it.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
from pathlib import Path

import yaml

from tests.running import PATIENCE, Client, Running, Server, run_twistd, test_environment

SHIPPED = Path(__file__).parent.parent / "deploy/systemd/wow.yaml"


class SystemdTestCase(Running):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.listening = socket.create_server(
            ("::", 0), family=socket.AF_INET6, backlog=16, dualstack_ipv6=True
        )
        self.addCleanup(self.listening.close)
        self.credentials = Path(self.mktemp()).absolute()
        self.credentials.mkdir()
        key = self.credentials / "wow.keys"
        key.write_bytes(base64.b64encode(os.urandom(32)))
        key.chmod(0o400)
        self.environ = {"CREDENTIALS_DIRECTORY": str(self.credentials)}

    def activate(self, **environ: str) -> Server:
        # The variable of a test server is stronger than the file.
        listen = json.dumps(yaml.safe_load(SHIPPED.read_text())["listen"])
        environ = {"WOW_LISTEN": listen, **self.environ, **environ}
        return self.start(
            self.directory, "--config", str(SHIPPED), listening=self.listening, **environ
        )


class Socket(SystemdTestCase):
    """The listening socket is systemd's."""

    def test_served(self) -> None:
        """By IPv4 too, on the one socket."""
        server = self.activate()
        self.assertEqual(server.address[1], self.listening.getsockname()[1])
        with self.connect(server) as client:
            self.assertEqual(client.quote()["type"], "quote")
        with Client(("::1", server.address[1]), "::1") as client:
            self.assertEqual(client.quote()["type"], "quote")

    def test_key_is_a_credential(self) -> None:
        """Shared by two runs, as only a key that was given is."""
        server = self.activate()
        with self.connect(server) as client:
            solution = client.solution()
        server.stop()
        with self.connect(self.activate()) as client:
            self.assertEqual(client.say(solution)["type"], "quote")

    def test_token_of_operators_is_a_credential(self) -> None:
        token = self.credentials / "admin.token"
        token.write_text("for-operators-alone\n")
        token.chmod(0o400)
        server = self.activate(WOW_ADMIN__TOKEN="credential:admin.token")
        self.assertEqual(server.page("/metrics")[0], 401)
        self.assertEqual(server.page("/health/live")[0], 200)

    def test_nobody_is_refused_while_it_is_restarted(self) -> None:
        server = self.activate()
        address = server.address
        server.stop()
        with Client(address) as waiting:
            waiting.send({"type": "request"})
            self.activate()
            answer = waiting.hear()
        assert answer is not None
        self.assertEqual(answer["type"], "challenge")

    def test_not_started_by_systemd(self) -> None:
        """It says why it cannot listen, and what to do."""
        self.directory.mkdir()
        environ = test_environment(self.environ)
        del environ["WOW_LISTEN"]
        ended = run_twistd(
            self.directory, environ, "-n", "--pidfile=", "wow", "--config", str(SHIPPED)
        )
        self.assertEqual(ended.returncode, 1)
        self.assertIn("systemd has handed over no such socket", ended.stdout)
        self.assertNotIn("Traceback", ended.stdout)


class Notices(SystemdTestCase):
    """What it tells, from the start to the end."""

    def setUp(self) -> None:
        super().setUp()
        self.address = f"@wow-test-{os.getpid()}-{id(self)}"
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.settimeout(PATIENCE)
        self.systemd.bind(f"\0{self.address[1:]}")

    def hear(self) -> str:
        return self.systemd.recv(4096).decode()

    def test_life(self) -> None:
        self.live()

    def test_life_with_workers(self) -> None:
        """It is their parent that tells."""
        self.live(WOW_WORKERS="2")

    def live(self, **environ: str) -> None:
        server = self.activate(NOTIFY_SOCKET=self.address, **environ)
        self.assertEqual(self.hear(), "READY=1")
        with self.connect(server) as client:
            client.challenge()
        server.signal(signal.SIGHUP)
        self.assertTrue(self.hear().startswith("RELOADING=1\nMONOTONIC_USEC="))
        self.assertEqual(self.hear(), "READY=1")
        server.stop()
        self.assertEqual(self.hear(), "STOPPING=1")

    def test_watchdog(self) -> None:
        """It is heard again and again while the loop turns, and no more when it does not."""
        server = self.activate(NOTIFY_SOCKET=self.address, WATCHDOG_USEC="200000")
        self.assertEqual([self.hear() for _ in range(4)], ["READY=1", *["WATCHDOG=1"] * 3])
        server.signal(signal.SIGSTOP)
        self.systemd.settimeout(1)
        with self.assertRaises(TimeoutError):
            while self.hear():
                pass
        server.signal(signal.SIGCONT)
        self.systemd.settimeout(PATIENCE)
        self.assertEqual(self.hear(), "WATCHDOG=1")
