"""Machines that share a spent store, a real Valkey, and all that can come between them."""

from __future__ import annotations

import json
import signal
import ssl
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from tests.redis_server import KEY, Relay, Sentinel, Valkey, free_ports
from tests.running import Message, Running, Server, wait_until
from wow.test.certificates import issue


class Sharing(Running):
    """A Valkey, and a relay to it."""

    options: tuple[str, ...] = ()
    password = ""

    def setUp(self) -> None:
        self.begin()
        self.valkey = Valkey(*self.options, password=self.password)
        self.addCleanup(self.valkey.remove)
        self.relay = Relay(self.valkey.socket)
        self.addCleanup(self.relay.close)
        self.url = f"redis://127.0.0.1:{self.relay.port}/3"

    def begin(self) -> None:
        self.keys = self.key_file()
        self.machines: list[Server] = []
        # The last of all, when they have ended.
        self.addCleanup(self.nothing_broke)

    def nothing_broke(self) -> None:
        for machine in self.machines:
            machine.wait()
            self.assertEqual([event for event in machine.events if "exception" in event], [])

    def machine(self, ready: bool = True, **environ: str) -> Server:
        """A server as on a machine of its own."""
        settings = {
            "WOW_SPENT__URL": self.url,
            "WOW_SPENT__TIMEOUT": "5",
            "WOW_KEYS__FILE": self.keys,
            **environ,
        }
        server = self.start(None, **settings)
        self.machines.append(server)
        if ready:
            self.wait_until_ready(server)
        return server

    def health(self, server: Server) -> Message:
        return dict(json.loads(server.page("/health/ready")[1]))

    def wait_until_ready(self, server: Server) -> None:
        wait_until(lambda: bool(self.health(server)["ready"]))

    def wait_for_trouble(self, server: Server, reason: str) -> None:
        """Wait until the store is in trouble for a reason."""
        wait_until(lambda: reason in self.health(server)["reasons"].get("spent", ""))

    def ask(self, server: Server) -> Message:
        """A solution that has not been handed in."""
        return self.connect(server).solution()

    def redeem(self, server: Server, solution: Message) -> str:
        """What comes of a solution, by code or type."""
        answer = self.connect(server).say(solution)
        return str(answer.get("code", answer["type"]))

    def wait_until_served(self, server: Server) -> None:
        """
        Wait until a new challenge can be redeemed: at most until the next look
        at the mark, once a second.
        """
        wait_until(lambda: self.redeem(server, self.ask(server)) == "quote")


class Machines(Sharing):
    def test_challenge_of_one_is_good_at_the_other_once(self) -> None:
        one, other = self.machine(), self.machine()
        solution = self.ask(one)
        self.assertEqual(self.redeem(other, solution), "quote")
        self.assertEqual(self.redeem(other, solution), "replayed")
        self.assertEqual(self.redeem(one, solution), "replayed")

    def test_race_has_one_winner(self) -> None:
        machines = (self.machine(), self.machine())
        solution = self.ask(machines[0])
        clients = [self.connect(machines[number % 2]) for number in range(50)]
        answers: list[str] = []

        def run(client: Any) -> None:
            answer = client.say(solution)
            answers.append(answer.get("code", answer["type"]))

        racers = [threading.Thread(target=run, args=(client,)) for client in clients]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        self.assertEqual(Counter(answers), {"quote": 1, "replayed": 49})

    def test_what_operators_see(self) -> None:
        machine = self.machine()
        self.redeem(machine, self.ask(machine))
        seen = self.health(machine)["spent"]
        self.assertEqual(
            (seen["url"], seen["connections"], seen["breaker"]), (self.url, 2, "closed")
        )
        self.assertEqual(machine.metric("wow_spent_reachable"), 1)
        self.assertEqual(machine.metric("wow_spent_connections"), 2)
        self.assertEqual(machine.metric('wow_spent_duration_seconds_count{question="spend"}'), 1)
        wait_until(lambda: machine.metric("wow_spent_entries") == 1)

    def test_scripts_that_the_server_has_forgotten(self) -> None:
        machine = self.machine()
        self.valkey.admin.script_flush()
        self.assertEqual(self.redeem(machine, self.ask(machine)), "quote")


class Losses(Sharing):
    """No store that has lost something revives what was spent, and new challenges are good."""

    def lose(self, how: str) -> None:
        admin = self.valkey.admin
        if how == "flushed":
            admin.flushall()
        elif how == "deleted":
            admin.select(3)
            admin.delete(KEY)
        elif how == "without the mark":
            admin.select(3)
            admin.zrem(KEY, "mark")
        else:
            self.valkey.stop()
            self.valkey.start()

    def test_nothing_is_revived(self) -> None:
        machine, other = self.machine(), self.machine()
        for how in ("flushed", "deleted", "without the mark", "restarted"):
            spent = self.ask(machine)
            self.assertEqual(self.redeem(machine, spent), "quote", how)
            self.lose(how)
            outcomes: set[str] = set()
            while not outcomes & {"expired", "replayed", "quote"}:
                outcomes.add(self.redeem(other, spent))
            self.assertNotIn("quote", outcomes, how)
            for each in (machine, other):
                self.wait_until_served(each)
                self.assertIn(self.redeem(each, spent), ("expired", "replayed"), how)
        machine.wait_for("spent_mark_moved")


class KeptOnDisk(Sharing):
    options = ("--appendonly", "yes")

    def test_restart_with_all_that_was_kept(self) -> None:
        machine = self.machine()
        spent = self.ask(machine)
        self.assertEqual(self.redeem(machine, spent), "quote")
        self.valkey.stop()
        self.valkey.start()
        self.wait_until_served(machine)
        self.assertEqual(self.redeem(machine, spent), "expired")


class Outages(Sharing):
    """The server is out of reach, and then is back, with nothing lost."""

    def test_refused_and_kept(self) -> None:
        machine = self.machine()
        solution = self.ask(machine)
        self.relay.cut()
        self.wait_for_trouble(machine, "not connected")
        answer = self.connect(machine).say(solution)
        self.assertEqual((answer["code"], answer["retry_after"]), ("unavailable", 1))
        self.assertEqual(machine.page("/health/ready")[0], 503)
        self.assertEqual(machine.metric("wow_spent_reachable"), 0)
        wait_until(lambda: machine.metric("wow_spent_usable") == 0)
        self.relay.mend()
        self.wait_until_ready(machine)
        self.assertEqual(self.redeem(machine, solution), "quote")
        self.assertEqual(self.redeem(machine, solution), "replayed")
        machine.signal(signal.SIGTERM)
        self.machines.remove(machine)
        machine.wait()
        names = Counter(event["event"] for event in machine.events)
        told = ("spent_mark_moved", "spent_store_usable", "spent_store_unusable")
        self.assertEqual([names[name] for name in told], [1, 2, 1])
        self.assertNotIn("Scheduling retry", json.dumps(machine.events))

    def test_server_that_does_not_answer(self) -> None:
        machine = self.machine(WOW_SPENT__TIMEOUT="0.3")
        solution = self.ask(machine)
        self.valkey.suspend()
        self.addCleanup(self.valkey.resume)
        self.assertEqual(self.redeem(machine, solution), "unavailable")
        self.wait_for_trouble(machine, "no answer")
        self.assertGreater(machine.metric('wow_spent_failures_total{reason="late"}'), 0)
        asked = machine.metric('wow_spent_failures_total{reason="late"}')
        for _ in range(20):
            self.assertEqual(self.redeem(machine, solution), "unavailable")
        self.assertLess(machine.metric('wow_spent_failures_total{reason="late"}'), asked + 10)
        self.valkey.resume()
        self.wait_until_ready(machine)
        # The server may have done what it was asked, too late.
        self.assertIn(self.redeem(machine, solution), ("quote", "replayed"))
        self.assertEqual(self.redeem(machine, self.ask(machine)), "quote")

    def test_not_there_at_the_start(self) -> None:
        self.relay.cut()
        machine = self.machine(ready=False)
        self.wait_for_trouble(machine, "not connected")
        self.assertEqual(self.redeem(machine, self.ask(machine)), "unavailable")
        self.relay.mend()
        self.wait_until_ready(machine)
        self.wait_until_served(machine)

    def test_ends_at_once_while_the_server_hangs(self) -> None:
        machine = self.machine(WOW_SPENT__TIMEOUT="60")
        self.valkey.suspend()
        self.addCleanup(self.valkey.resume)
        self.assertEqual(machine.stop(), -15)


class LocalOutages(Sharing):
    """Each machine goes on by itself while the server is out of reach."""

    def machine(self, ready: bool = True, **environ: str) -> Server:
        local = {"WOW_SPENT__OUTAGE": "local", "WOW_SPENT__DIRECTORY": "local", **environ}
        return super().machine(ready, **local)

    def cut(self, *machines: Server) -> None:
        self.relay.cut()
        for machine in machines:
            wait_until(lambda machine=machine: self.health(machine)["spent"]["alone"])  # type: ignore[misc]

    def mend(self, *machines: Server) -> None:
        self.relay.mend()
        for machine in machines:
            wait_until(lambda machine=machine: self.settled(machine))  # type: ignore[misc]

    def settled(self, machine: Server) -> bool:
        spent = self.health(machine)["spent"]
        return not (spent["alone"] or spent["owing"])

    def test_once_on_each_machine_and_nowhere_afterwards(self) -> None:
        one, other = self.machine(), self.machine()
        before, during, kept = self.ask(one), self.ask(one), self.ask(one)
        self.assertEqual(self.redeem(one, before), "quote")
        self.cut(one, other)
        self.assertEqual(self.redeem(one, before), "replayed")
        self.assertEqual(self.redeem(one, during), "quote")
        self.assertEqual(self.redeem(one, during), "replayed")
        self.assertTrue(self.health(one)["ready"])
        self.assertEqual(one.metric("wow_spent_reachable"), 0)
        self.assertEqual(one.metric("wow_spent_alone_total"), 1)
        self.mend(one, other)
        self.assertEqual(self.redeem(other, during), "replayed")
        self.assertEqual(self.redeem(other, kept), "quote")
        self.assertEqual(self.redeem(one, kept), "replayed")

    def test_process_that_ends_in_an_outage(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        place = str((directory / "local").absolute())
        one, other = self.machine(WOW_SPENT__DIRECTORY=place), self.machine()
        solution = self.ask(one)
        self.cut(one, other)
        self.assertEqual(self.redeem(one, solution), "quote")
        one.process.kill()
        one.process.wait()
        again = self.machine(WOW_SPENT__DIRECTORY=place)
        self.assertEqual(self.redeem(again, solution), "replayed")
        self.mend(again, other)
        self.assertEqual(self.redeem(other, solution), "replayed")

    def test_server_that_comes_back_empty(self) -> None:
        one, other = self.machine(), self.machine()
        solution = self.ask(one)
        self.cut(one, other)
        self.assertEqual(self.redeem(one, solution), "quote")
        self.valkey.stop()
        self.valkey.start()
        self.mend(one, other)
        self.assertIn(self.redeem(other, solution), ("expired", "replayed"))
        self.wait_until_served(one)


class Locked(Sharing):
    password = "right-password"

    def test_password(self) -> None:
        machine = self.machine(
            WOW_SPENT__PASSWORD="env:VALKEY_PASSWORD",
            VALKEY_PASSWORD="right-password",
        )
        self.assertEqual(self.redeem(machine, self.ask(machine)), "quote")

    def test_wrong_password_put_right_on_the_server(self) -> None:
        machine = self.machine(ready=False, WOW_SPENT__PASSWORD="wrong-password")
        self.wait_for_trouble(machine, "WRONGPASS")
        self.valkey.admin.config_set("requirepass", "wrong-password")
        self.wait_until_ready(machine)
        machine.stop()
        self.assertNotIn("wrong-password", json.dumps(machine.events))

    def test_no_password(self) -> None:
        self.wait_for_trouble(self.machine(ready=False), "NOAUTH")

    def test_user_who_may_do_no_more_than_is_needed(self) -> None:
        rights = "+info +select +eval +evalsha +zadd +zrem +zcard +zmscore +zrangebyscore +time"
        self.valkey.admin.execute_command(
            "ACL", "SETUSER", "wow", "on", ">its-password", "~wow:*", *rights.split()
        )
        self.url = self.url.replace("//", "//wow@")
        machine = self.machine(WOW_SPENT__PASSWORD="its-password")
        self.assertEqual(self.redeem(machine, self.ask(machine)), "quote")


class Encrypted(Sharing):
    def setUp(self) -> None:
        super().setUp()
        self.pem = Path(self.mktemp()).absolute()
        issued = issue("localhost")
        self.pem.write_bytes(issued.private + issued.public)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        self.relay = Relay(self.valkey.socket, context)
        self.addCleanup(self.relay.close)
        self.url = f"rediss://localhost:{self.relay.port}"

    def test_good(self) -> None:
        machine = self.machine(WOW_SPENT__CA=str(self.pem))
        self.assertEqual(self.redeem(machine, self.ask(machine)), "quote")

    def test_stranger(self) -> None:
        machine = self.machine(ready=False)
        self.wait_for_trouble(machine, "certificate verify failed")
        self.assertEqual(self.redeem(machine, self.ask(machine)), "unavailable")

    def test_another_name(self) -> None:
        self.url = self.url.replace("localhost", "127.0.0.1")
        machine = self.machine(ready=False, WOW_SPENT__CA=str(self.pem))
        self.wait_for_trouble(machine, "not connected")

    def test_no_plain_word_to_a_server_that_should_encrypt(self) -> None:
        self.relay = Relay(self.valkey.socket)
        self.addCleanup(self.relay.close)
        self.url = f"rediss://localhost:{self.relay.port}"
        machine = self.machine(ready=False, WOW_SPENT__CA=str(self.pem))
        self.wait_for_trouble(machine, "not connected")


class Failovers(Sharing):
    """A master, a replica, and a Sentinel that knows them."""

    def setUp(self) -> None:
        self.begin()
        self.start_three()
        self.url = f"redis+sentinel://127.0.0.1:9,127.0.0.1:{self.ports[2]}/wisdom"
        wait_until(lambda: self.sentinel.admin.sentinel_slaves("wisdom") != [])

    def start_three(self) -> None:
        master, replica, sentinel = self.ports = free_ports(3)
        self.master = Valkey("--port", str(master), "--repl-diskless-sync-delay", "0")
        self.addCleanup(self.master.remove)
        self.replica = Valkey("--port", str(replica), "--replicaof", f"127.0.0.1 {master}")
        self.addCleanup(self.replica.remove)
        # Before the Sentinel looks, which it does every ten seconds.
        wait_until(lambda: self.replica.admin.info("replication")["master_link_status"] == "up")
        self.sentinel = Sentinel("wisdom", master, sentinel)
        self.addCleanup(self.sentinel.remove)

    def promoted(self) -> bool:
        return str(self.replica.admin.info("replication")["role"]) == "master"

    def test_master_that_dies(self) -> None:
        machine, other = self.machine(WOW_SPENT__TIMEOUT="2"), self.machine()
        spent = self.ask(machine)
        self.assertEqual(self.redeem(machine, spent), "quote")
        self.master.stop()
        wait_until(self.promoted)
        for each in (machine, other):
            self.wait_until_served(each)
            self.assertIn(self.redeem(each, spent), ("expired", "replayed"))

    def test_no_sentinel_knows_it(self) -> None:
        self.url = self.url.replace("wisdom", "folly")
        self.wait_for_trouble(self.machine(ready=False), "no Sentinel knows the master folly")
