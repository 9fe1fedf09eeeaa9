"""
No secret is seen anywhere. A server gets one of each kind, tells all that it
can, serves, fails, and is given what it has to refuse; and then all that it
ever said is searched.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from tests.collector import Collector
from tests.redis_server import Relay, Valkey
from tests.running import PATIENCE, Running, Server, run_twistd, test_environment, wait_until

WOW = str(Path(sys.executable).parent / "wow")


def forms(secret: str) -> set[str]:
    """How a secret may look where it was let slip."""
    try:
        raw = base64.b64decode(secret, validate=True)
    except ValueError:
        raw = secret.encode()
    return {
        secret,
        quote(secret, safe=""),
        raw.hex(),
        repr(raw)[2:-1],
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        base64.b64encode(secret.encode()).decode().rstrip("="),
    }


class OfAServer(Running):
    workers = "1"

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.secrets: dict[str, str] = {}
        self.said: list[str] = []
        self.valkey = Valkey(password=self.secret("password"))
        self.addCleanup(self.valkey.remove)
        self.relay = Relay(self.valkey.socket)
        self.addCleanup(self.relay.close)
        self.collector = Collector()
        self.addCleanup(self.collector.close)
        self.write("wow.keys", self.key("key file"))
        self.write("password", self.secrets["password"])
        self.write("collector", f"Bearer {self.secret('credential')}")
        self.environ = {
            "CREDENTIALS_DIRECTORY": str(self.folder),
            "API_KEY": self.secret("environment"),
            "WOW_WORKERS": self.workers,
        }
        self.configure()

    def secret(self, name: str) -> str:
        self.secrets[name] = f"hunter+{secrets.token_hex(12)}/2"
        return self.secrets[name]

    def key(self, name: str) -> str:
        self.secrets[name] = base64.b64encode(os.urandom(33)).decode()
        return self.secrets[name]

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.touch(0o600)
        path.write_text(content)
        return path

    def configure(self, **changes: Any) -> Path:
        api = {
            "type": "http",
            "name": "api",
            "url": f"http://127.0.0.1:{self.relay.port}/?key={self.secret('address')}",
            "text": "q",
            "author": "a",
            "headers": {"X-Key": "env:API_KEY", "X-Plain": self.secret("configuration")},
            "interval": 0.1,
        }
        whole: dict[str, Any] = {
            "keys": {"file": str(self.folder / "wow.keys")},
            "spent": {
                "url": f"redis://127.0.0.1:{self.relay.port}/0",
                "password": f"file:{self.folder / 'password'}",
            },
            "quotes": {"sources": [api, {"type": "collection", "name": "collection"}]},
            "tracing": {
                "endpoint": self.collector.url,
                "ratio": 1,
                "headers": {"Authorization": "credential:collector"},
            },
            "log": {"level": "debug"},
        }
        return self.write("wow.yaml", yaml.safe_dump(whole | changes))

    def begin(self, **environ: str) -> Server:
        server = self.start(
            self.folder / "run",
            "--config",
            str(self.folder / "wow.yaml"),
            **self.environ | environ,
        )
        wait_until(lambda: server.page("/health/ready")[0] == 200)
        return server

    def wow(self, *words: str) -> int:
        """Run C{wow}, and keep what it says."""
        ran = subprocess.run(
            [WOW, *words],
            env=test_environment(self.environ),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.said.append(ran.stdout + ran.stderr)
        return ran.returncode

    def look(self, server: Server) -> None:
        """Keep all that operators are shown, and other users of the machine."""
        pages = ("/", "/metrics", "/health/live", "/health/ready", "/nowhere")
        self.said.extend(server.page(page)[1] for page in pages)
        for pid in self.processes(server.process.pid):
            for name in ("cmdline", "comm", "limits"):
                self.said.append((Path("/proc") / str(pid) / name).read_text())

    def processes(self, pid: int) -> list[int]:
        """A process and its children."""
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.assertEqual(len(children), int(self.workers) if self.workers != "1" else 0)
        return [pid, *map(int, children)]

    def serve(self, server: Server) -> None:
        with server.connect() as client:
            self.assertEqual(client.quote()["type"], "quote")
            solution = client.solution()
            solution["nonces"][0] += 1
            self.said.append(json.dumps(client.say(solution)))
            client.socket.sendall(b"\0\0\0\x01{")
            self.said.append(json.dumps(client.hear()))

    def refuse(self, server: Server) -> None:
        """What is refused whole."""
        before = len(server.seen("reload_refused"))
        refused = self.wow("reload", f"127.0.0.1:{server.admin[1]}")
        self.assertEqual(refused, 1, (self.folder / "wow.yaml").read_text())
        wait_until(lambda: len(server.seen("reload_refused")) > before)
        self.refuse_to_start()

    def refuse_to_start(self) -> None:
        config = ("--config", str(self.folder / "wow.yaml"))
        self.assertEqual(self.wow("config", "check", *config), 1)

    def be_refused(self, server: Server) -> None:
        good = (self.folder / "wow.yaml").read_text()
        slip = self.secret("slip")
        short = base64.b64encode(slip[:20].encode()).decode()
        self.secrets["short"] = short
        bad_key = self.write("bad.keys", f"key:{slip} {slip}")
        short_key = self.write("short.keys", short)
        lines = self.write("lines", f"{slip}\na")
        for text in (
            f"spent:\n  password: 'x\n  ca: {slip}",
            f"spent:\n  password: {{{slip}: 1}}\n",
            f"limits:\n  idle: {slip}\n",
            f"spent: {{url: 'redis://wow:{slip}@127.0.0.1:1/0'}}\n",
            f"quotes: {{sources: [{{type: http, headers: {{'X-Key:{slip}': null}}}}]}}\n",
            f"keys: {{file: {bad_key}}}\n",
            f"keys: {{file: {short_key}}}\n",
            f"spent: {{url: 'redis://h/0', password: 'file:{lines}'}}\n",
        ):
            self.write("wow.yaml", text)
            self.refuse(server)
        self.write("wow.yaml", good)
        (self.folder / "password").chmod(0o644)
        self.refuse(server)
        self.assertIn("chmod 600", "".join(self.said))
        words = ("-n", "--pidfile=", "wow", "--config", str(self.folder / "wow.yaml"))
        ran = run_twistd(self.folder / "run", test_environment(self.environ), *words)
        self.assertEqual(ran.returncode, 1)
        self.said.append(ran.stdout)
        (self.folder / "password").chmod(0o600)

    def fail(self, server: Server) -> None:  # type: ignore[override]
        """The server that it needs is out of reach, and then takes another password."""
        self.relay.cut()
        wait_until(lambda: server.page("/health/ready")[0] == 503)
        self.look(server)
        self.valkey.admin.config_set("requirepass", "another")
        self.relay.mend()
        wait_until(lambda: "WRONGPASS" in server.page("/health/ready")[1])
        with server.connect() as client:
            self.said.append(json.dumps(client.quote()))
        self.look(server)

    def search(self) -> None:
        self.said.append(repr(self.collector.spans()))
        for name, secret in self.secrets.items():
            for form in forms(secret):
                for said in self.said:
                    at = said.find(form)
                    self.assertEqual(at, -1, f"{name}: {said[max(0, at - 200) : at + 200]}")

    def check_that_none_is_seen(self) -> None:
        server = self.begin()
        config = ("--config", str(self.folder / "wow.yaml"))
        self.serve(server)
        self.look(server)
        self.assertIn("Max core file size        1", self.said[-1])
        self.assertEqual(self.wow("config", "show", *config), 0)
        self.assertEqual(self.wow("keys", "list", *config), 0)
        self.assertEqual(self.wow("keys", "add", *config), 0)
        added = (self.folder / "wow.keys").read_text().splitlines()[1]
        self.secrets["added"] = added.split()[0]
        self.assertEqual(self.wow("reload", f"127.0.0.1:{server.admin[1]}"), 0)
        self.serve(server)
        self.collector.wait_for(1)
        self.assertIn(self.secrets["credential"], str(self.collector.received[0].headers))
        self.be_refused(server)
        self.serve(server)
        self.fail(server)
        server.signal(signal.SIGABRT if self.workers == "1" else signal.SIGTERM)
        server.wait()
        self.said.append(json.dumps(server.events, ensure_ascii=False))
        self.search()


class OfOneProcess(OfAServer):
    def test_are_not_seen(self) -> None:
        self.check_that_none_is_seen()

    def test_of_keys_that_are_in_no_file_of_the_configuration(self) -> None:
        for name, environ in (
            ("environment", {"WOW_KEYS": self.key("WOW_KEYS")}),
            ("credential", {}),
        ):
            self.configure(keys={}, spent={}, tracing={})
            server = self.begin(**environ)
            self.serve(server)
            self.look(server)
            server.stop()
            said = json.dumps(server.events)
            self.assertNotIn("random_key", said, name)
            self.said.append(said)
        self.environ["WOW_KEYS"] = self.secret("rubbish")
        self.assertEqual(self.wow("config", "check"), 1)
        self.search()


class OfWorkers(OfAServer):
    workers = "2"

    def refuse_to_start(self) -> None:
        """That is no other than in one process."""

    def test_are_not_seen(self) -> None:
        self.check_that_none_is_seen()
