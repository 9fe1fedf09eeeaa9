"""Three replicas behind a real HAProxy, which share a real Valkey, under honest load."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path

from tests.balancer import HAProxy
from tests.honest import Honest
from tests.redis_server import Relay, Valkey
from tests.running import Client, Running, Server, wait_until
from wow.pow import keys

BALANCER = "127.7.0.1"
TTL, SKEW = 3, 1
ENOUGH = 20
"""Exchanges after which things count as going on."""

CONFIGURATION = f"""
defaults
    mode tcp
    balance roundrobin
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch
listen wow
    bind fd@{{{{wow}}}}
    option httpchk GET /health/ready
    default-server inter 200ms fall 1 rise 1 source {BALANCER} send-proxy-v2
{{servers}}
"""
_SERVER = (
    "    server {name} 127.0.0.1:{port} check port {admin} check-send-proxy no-check-send-proxy"
)


class Cluster(Running):
    """
    @ivar replicas: each with a folder and a copy of the key file of its own.
    """

    def setUp(self) -> None:
        self.valkey = Valkey()
        self.addCleanup(self.valkey.remove)
        self.relay = Relay(self.valkey.socket)
        self.addCleanup(self.relay.close)
        self.directories = [Path(self.mktemp()).absolute() for _ in range(3)]
        self.write_keys([keys.generate()])
        self.replicas = [self.start_replica(number) for number in range(3)]
        wait_until(lambda: all(each.page("/health/ready")[0] == 200 for each in self.replicas))
        self.haproxy = HAProxy(CONFIGURATION.format(servers=self.servers()), ("wow",))
        self.addCleanup(self.haproxy.stop)
        wait_until(lambda: self.up() == 3)

    def start_replica(self, number: int, before: Server | None = None) -> Server:
        """
        @param before: the one whose place it takes, with its ports.
        """
        port, admin = (before.address[1], before.admin[1]) if before else (0, 0)
        return self.start(
            self.directories[number],
            WOW_LISTEN=json.dumps([f"haproxy:tcp:{port}:interface=127.0.0.1"]),
            WOW_ADMIN__LISTEN=f"tcp:{admin}:interface=127.0.0.1",
            WOW_PROXY__NETWORKS=json.dumps([BALANCER]),
            WOW_SPENT__URL=f"redis://127.0.0.1:{self.relay.port}/0",
            WOW_SPENT__TIMEOUT="2",
            WOW_POW__TTL=str(TTL),
            WOW_POW__SKEW=str(SKEW),
            WOW_KEYS__FILE=str(self.key_path(number)),
            WOW_LIMITS__DRAIN="2",
        )

    def replace_replica(self, number: int) -> None:
        """End one in order, start it anew, and wait until it has clients again."""
        before = self.replicas[number]
        before.stop()
        self.replicas[number] = self.start_replica(number, before)
        wait_until(lambda: self.up() == 3)

    def key_path(self, number: int) -> Path:
        return self.directories[number] / "wow.key"

    def write_keys(self, ring: list[keys.Key], *numbers: int) -> None:
        """Give replicas their keys; without numbers, all of them."""
        for number in numbers or range(3):
            self.directories[number].mkdir(exist_ok=True)
            path = self.key_path(number)
            path.touch(0o600)
            path.write_text("".join(f"{keys.encode(key)}\n" for key in ring))

    def servers(self) -> str:
        return "\n".join(
            _SERVER.format(name=f"wow{number}", port=replica.address[1], admin=replica.admin[1])
            for number, replica in enumerate(self.replicas)
        )

    def up(self) -> int:
        """How many replicas the balancer sends clients to."""
        states = self.haproxy.states()
        return sum(states["wow", f"wow{number}"][0] == "UP" for number in range(3))

    def client(self, source: str = "127.20.0.1") -> Client:
        """One that comes by way of the balancer, to the next replica in turn."""
        client = Client(self.haproxy.addresses["wow"], source)
        self.addCleanup(client.close)
        return client

    def load(self) -> Honest:
        honest = Honest(self.haproxy.addresses["wow"], "127.30")
        self.addCleanup(honest.stop)
        self.wait_for_more(honest)
        return honest

    def wait_for_more(self, honest: Honest) -> None:
        """Wait until clients are served, from now on."""
        enough = honest.served + ENOUGH
        wait_until(lambda: honest.served >= enough)

    def assertNothingLost(self, honest: Honest) -> None:
        """Every client got what it had paid for, and none got it twice."""
        honest.stop()
        self.assertEqual((honest.lost, honest.twice), (Counter(), 0), honest.trouble)


class Together(Cluster):
    def test_challenge_from_one_and_solution_to_another(self) -> None:
        solutions = [self.client().solution() for _ in range(3)]
        issued = [
            each.metric('wow_outcomes_total{code="ok",type="request"}') for each in self.replicas
        ]
        self.assertEqual(issued, [1, 1, 1])
        # In turn, so one replica further than it was asked for.
        self.client().close()
        self.assertEqual([self.client().say(each)["type"] for each in solutions], ["quote"] * 3)
        self.assertEqual([self.client().say(each)["code"] for each in solutions], ["replayed"] * 3)

    def test_race_at_all_three_has_one_winner(self) -> None:
        solution = self.client().solution()
        clients = [self.client() for _ in range(51)]
        answers: list[str] = []

        def run(client: Client) -> None:
            answer = client.say(solution)
            answers.append(str(answer.get("code", answer["type"])))

        racers = [threading.Thread(target=run, args=(client,)) for client in clients]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        self.assertEqual(Counter(answers), {"quote": 1, "replayed": 50})
        tried = [each.metric('wow_requests_total{type="solution"}') for each in self.replicas]
        self.assertEqual(tried, [17, 17, 17])


class Faults(Cluster):
    def test_replica_killed(self) -> None:
        honest = self.load()
        killed = self.replicas[0]
        killed.process.kill()
        killed.process.wait()
        wait_until(lambda: self.up() == 2)
        self.wait_for_more(honest)
        self.replicas[0] = self.start_replica(0, killed)
        wait_until(lambda: self.up() == 3)
        self.wait_for_more(honest)
        self.assertNothingLost(honest)

    def test_valkey_out_of_reach_and_back(self) -> None:
        honest = self.load()
        self.relay.cut()
        wait_until(lambda: honest.trouble["unavailable"] > 0)
        served = honest.served
        wait_until(lambda: self.up() == 0)
        self.relay.mend()
        wait_until(lambda: self.up() == 3)
        self.wait_for_more(honest)
        self.assertGreater(honest.served, served)
        honest.stop()
        self.assertEqual(honest.twice, 0)

    def test_valkey_stopped_and_started(self) -> None:
        """It comes back empty: challenges that were out are void, and none is good twice."""
        honest = self.load()
        spent = self.client().solution()
        self.assertEqual(self.client().say(spent)["type"], "quote")
        self.valkey.stop()
        wait_until(lambda: self.up() == 0)
        self.valkey.start()
        wait_until(lambda: self.up() == 3)
        self.assertIn(self.client().say(spent)["code"], ("expired", "replayed"))
        self.wait_for_more(honest)
        honest.stop()
        self.assertLessEqual(set(honest.lost), {"expired"})
        self.assertEqual(honest.twice, 0)


class Rotation(Cluster):
    def test_no_proof_is_lost(self) -> None:
        """Added everywhere, then first everywhere, then the old one taken out everywhere."""
        honest = self.load()
        (old,) = self.ring(0)
        new = keys.generate()
        for ring in ([old, new], [new, old]):
            self.rotate(ring, honest)
        # Until the last challenge that the old one signed has expired.
        last = time.monotonic() + TTL + SKEW
        wait_until(lambda: time.monotonic() > last)
        self.rotate([new], honest)
        self.assertNothingLost(honest)

    def ring(self, number: int) -> list[keys.Key]:
        ring = keys.read(self.key_path(number))
        return [ring.signing]

    def rotate(self, ring: list[keys.Key], honest: Honest) -> None:
        """One replica after the other, with clients served at each stage."""
        for number in range(3):
            self.write_keys(ring, number)
            self.replace_replica(number)
            self.wait_for_more(honest)
