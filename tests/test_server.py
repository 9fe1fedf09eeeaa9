"""The real server in a process, spoken to over real sockets."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

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

SOLE_API = [
    {
        "type": "http",
        "name": "gone",
        "url": "http://127.0.0.1:9/",
        "text": "t",
        "author": "a",
        "timeout": 1,
    }
]


class Exchanges(Running):
    def test_ask_prove_get_a_quote(self) -> None:
        quote = self.connect(self.start()).quote()
        self.assertEqual(set(quote), {"type", "text", "author", "source"})
        self.assertEqual((quote["type"], quote["source"]), ("quote", "collection"))

    def test_many_on_one_connection(self) -> None:
        client = self.connect(self.start())
        texts = {client.quote()["text"] for _ in range(100)}
        self.assertGreater(len(texts), 10)

    def test_challenge_on_one_connection_and_solution_on_another(self) -> None:
        server = self.start()
        with server.connect() as asking:
            solution = asking.solution()
        self.assertEqual(self.connect(server).say(solution)["type"], "quote")

    def test_neighbours_share_a_challenge_where_they_count_as_one_client(self) -> None:
        server = self.start(WOW_LIMITS__PREFIX_V4="24")
        solution = self.connect(server).solution()
        self.assertEqual(self.connect(server, "127.0.0.2").say(solution)["type"], "quote")

    def test_solving_may_take_longer_than_idleness(self) -> None:
        client = self.connect(self.start(WOW_LIMITS__IDLE="0.2"))
        challenge = client.challenge()
        received = time.monotonic()
        wait_until(lambda: time.monotonic() > received + 0.4)
        self.assertEqual(client.say(solve(challenge))["type"], "quote")

    def test_pipelined(self) -> None:
        client = self.connect(self.start())
        client.send(*[{"type": "request"}] * 50)
        heard = [client.hear() for _ in range(50)]
        self.assertEqual({message and message["type"] for message in heard}, {"challenge"})

    def test_fifty_race_with_the_same_solution(self) -> None:
        server = self.start()
        solution = self.connect(server).solution()
        clients = [self.connect(server) for _ in range(50)]
        together = threading.Barrier(50)
        outcomes: Counter[str] = Counter()

        def race(client: Client) -> None:
            together.wait(PATIENCE)
            answer = client.say(solution)
            outcomes[str(answer.get("code", answer["type"]))] += 1

        racers = [threading.Thread(target=race, args=(client,)) for client in clients]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(PATIENCE)
        self.assertEqual(outcomes, {"quote": 1, "replayed": 49})

    def test_unix_socket(self) -> None:
        path = Path(self.mktemp()).absolute()
        server = self.start(WOW_LISTEN=json.dumps([f"unix:{path}"]))
        client = Client.__new__(Client)
        client.socket = socket.socket(socket.AF_UNIX)
        client.socket.settimeout(PATIENCE)
        client.socket.connect(os.path.relpath(path))
        self.addCleanup(client.close)
        self.assertEqual(client.quote()["type"], "quote")
        self.assertEqual(server.page("/health/ready")[0], 200)


class Restarts(Running):
    def replay(self, between: Any = lambda directory: None) -> str:
        """What a spent solution is answered after a restart on the same key and store."""
        directory, key_file = Path(self.mktemp()), self.key_file()
        server = self.start(directory, WOW_KEYS__FILE=key_file)
        client = self.connect(server)
        solution = client.solution()
        # The store started when the server did; see the mark.
        self.assertEqual(client.say(solution)["type"], "quote")
        server.stop()
        between(directory)
        answer = self.connect(self.start(directory, WOW_KEYS__FILE=key_file)).say(solution)
        return str(answer["code"])

    def test_spent_is_spent_after_a_restart(self) -> None:
        self.assertEqual(self.replay(), "replayed")

    def test_spent_is_spent_after_the_store_was_deleted(self) -> None:
        self.assertEqual(
            self.replay(lambda directory: shutil.rmtree(directory / "var" / "spent")), "expired"
        )

    def test_unspent_solution_survives_a_restart(self) -> None:
        directory, key_file = Path(self.mktemp()), self.key_file()
        server = self.start(directory, WOW_KEYS__FILE=key_file)
        solution = self.connect(server).solution()
        server.stop()
        again = self.start(directory, WOW_KEYS__FILE=key_file)
        self.assertEqual(self.connect(again).say(solution)["type"], "quote")

    def test_random_key_dies_with_its_process(self) -> None:
        directory = Path(self.mktemp())
        server = self.start(directory)
        self.assertEqual(server.wait_for("random_key")["level"], "warning")
        solution = self.connect(server).solution()
        server.stop()
        answer = self.connect(self.start(directory)).say(solution)
        self.assertEqual(answer["code"], "invalid_challenge")


class Refusals(Running):
    """Each error code, and whether the connection is kept."""

    def check(self, client: Client, code: str, kept: bool) -> dict[str, Any]:
        answer = client.hear()
        assert answer is not None
        self.assertEqual((answer["type"], answer["code"]), ("error", code))
        if kept:
            self.assertIn(client.say({"type": "request"})["type"], ("challenge", "error"))
        else:
            self.assertIsNone(client.hear())
        return answer

    def test_of_bad_frames(self) -> None:
        server = self.start()
        for data, code in (
            (b"\x00\x00\x00\x00", "frame_too_large"),
            (b"\x00\x00\x10\x01", "frame_too_large"),
            (b"\xff\xff\xff\xff", "frame_too_large"),
            (b"GET / HTTP/1.1\r\n\r\n", "frame_too_large"),
            (b"\x00\x00\x00\x02{}", "malformed"),
            (b'\x00\x00\x00\x10{"type":"quote"}', "malformed"),
        ):
            client = self.connect(server)
            client.socket.sendall(data)
            self.check(client, code, kept=False)

    def test_of_bad_requests(self) -> None:
        client = self.connect(self.start())
        client.send({"type": "request", "resource": "riches"})
        self.check(client, "unknown_resource", kept=True)

    def test_of_bad_solutions(self) -> None:
        server = self.start()
        client = self.connect(server)
        good = client.solution()
        other = self.connect(server, "127.0.0.2")
        other.send(good)
        self.check(other, "invalid_challenge", kept=False)
        client.send({**good, "challenge": "A" * 98})
        self.check(client, "invalid_challenge", kept=False)
        client = self.connect(server)
        client.send({**good, "nonces": good["nonces"][:-1]})
        self.check(client, "insufficient_work", kept=False)
        client = self.connect(server)
        self.assertEqual(client.say(good)["type"], "quote")
        client.send(good)
        self.check(client, "replayed", kept=False)

    def test_expired(self) -> None:
        server = self.start(WOW_POW__TTL="0.05", WOW_POW__SKEW="0")
        solution = self.connect(server).solution()
        received = time.monotonic()
        wait_until(lambda: time.monotonic() > received + 0.06)
        client = self.connect(server)
        client.send(solution)
        self.check(client, "expired", kept=True)

    def test_rate_limited(self) -> None:
        server = self.start(WOW_LIMITS__CHALLENGE_BURST="1", WOW_LIMITS__CHALLENGE_RATE="0.001")
        client = self.connect(server)
        client.challenge()
        client.send({"type": "request"})
        self.assertGreater(self.check(client, "rate_limited", kept=True)["retry_after"], 1)
        self.connect(server, "127.0.0.2").challenge()

    def test_busy(self) -> None:
        server = self.start(WOW_LIMITS__CONNECTIONS="1")
        first = self.connect(server)
        first.challenge()
        newcomer = self.connect(server)
        self.assertGreater(self.check(first, "busy", kept=False)["retry_after"], 0)
        self.assertEqual(newcomer.quote()["type"], "quote")

    def test_timeout_of_a_dripping_client_while_others_are_served(self) -> None:
        server = self.start(WOW_LIMITS__IDLE="1")
        dripping = self.connect(server)
        announced, dripped = b"\x00\x00\x10\x00", 0
        dripping.socket.settimeout(0.05)
        dripping.socket.sendall(announced)
        others = 0
        while dripped < 4000:
            try:
                dripping.socket.sendall(b" ")
                dripped += 1
                if dripping.socket.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                with server.connect() as other:
                    self.assertEqual(other.quote()["type"], "quote")
                others += 1
        self.assertGreater(others, 0)
        self.check(dripping, "timeout", kept=False)

    def test_unavailable(self) -> None:
        server = self.start(WOW_QUOTES__SOURCES=json.dumps(SOLE_API))
        client = self.connect(server)
        client.send(client.solution())
        self.check(client, "unavailable", kept=True)
        status, body = server.page("/health/ready")
        self.assertEqual(status, 503)
        self.assertIn("quotes", json.loads(body)["reasons"])

    def test_internal(self) -> None:
        # A fault put into the real server, as it starts.
        fault = Path(self.mktemp()).absolute()
        fault.mkdir()
        (fault / "sitecustomize.py").write_text(
            "import wow.pow.service\nwow.pow.service.seal = lambda *_: 1 / 0\n"
        )
        server = self.start(PYTHONPATH=str(fault))
        client = self.connect(server)
        client.send({"type": "request"})
        answer = self.check(client, "internal", kept=False)
        self.assertNotIn("division", answer["message"])
        self.assertIn("ZeroDivisionError", server.wait_for("internal_error")["exception"])
        self.assertEqual(self.connect(server).say({"type": "request"})["code"], "internal")


class Stopping(Running):
    def test_exchange_under_way_is_finished(self) -> None:
        server = self.start()
        client, idle = self.connect(server), self.connect(server)
        challenge = client.challenge()
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        answer = idle.hear()
        assert answer is not None
        self.assertEqual(answer["code"], "shutting_down")
        self.assertRaises(ConnectionRefusedError, server.connect)
        status, body = server.page("/health/ready")
        self.assertEqual((status, json.loads(body)["reasons"]), (503, {"gate": "shutting down"}))
        self.assertEqual(server.page("/health/live")[0], 200)
        self.assertEqual(client.say(solve(challenge))["type"], "quote")
        answer = client.hear()
        assert answer is not None
        self.assertEqual(answer["code"], "shutting_down")
        self.assertEqual(server.wait(), -signal.SIGTERM)

    def test_balancer_is_given_time(self) -> None:
        """First it says so, and goes on; a second signal is the end of that."""
        self.leave(self.start(WOW_LIMITS__LEAVE="1000"))

    def test_balancer_is_given_time_by_workers(self) -> None:
        self.leave(self.start(WOW_LIMITS__LEAVE="1000", WOW_WORKERS="2"))

    def leave(self, server: Server) -> None:
        wait_until(lambda: server.page("/health/ready")[0] == 200)
        server.signal(signal.SIGTERM)
        server.wait_for("leaving")
        status, body = server.page("/health/ready")
        self.assertEqual((status, json.loads(body)["reasons"]), (503, {"gate": "shutting down"}))
        with self.connect(server) as client:
            self.assertEqual(client.quote()["type"], "quote")
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        self.assertEqual(server.wait(), -signal.SIGTERM)

    def test_new_exchange_is_refused(self) -> None:
        server = self.start()
        client = self.connect(server)
        client.challenge()
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        self.assertEqual(client.say({"type": "request"})["code"], "shutting_down")
        self.assertEqual(server.wait(), -signal.SIGTERM)

    def test_deadline(self) -> None:
        server = self.start(WOW_LIMITS__DRAIN="0.2")
        client = self.connect(server)
        client.challenge()
        server.signal(signal.SIGTERM)
        answer = client.hear()
        assert answer is not None
        self.assertEqual(answer["code"], "shutting_down")
        self.assertEqual(server.wait(), -signal.SIGTERM)

    def test_second_signal_hurries(self) -> None:
        server = self.start(WOW_LIMITS__DRAIN="1000")
        client = self.connect(server)
        client.challenge()
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        server.signal(signal.SIGTERM)
        answer = client.hear()
        assert answer is not None
        self.assertEqual(answer["code"], "shutting_down")
        self.assertEqual(server.wait(), -signal.SIGTERM)
        self.assertNotIn("critical", [event.get("level") for event in server.events])

    def test_interrupt(self) -> None:
        server = self.start()
        # It answers, so it heeds signals.
        self.assertEqual(server.page("/health/live")[0], 200)
        server.signal(signal.SIGINT)
        self.assertEqual(server.wait(), -signal.SIGINT)

    def test_hangup_hurts_nothing(self) -> None:
        server = self.start()
        client = self.connect(server)
        server.signal(signal.SIGHUP)
        server.wait_for("reloaded")
        self.assertEqual(client.quote()["type"], "quote")


class Starting(Running):
    def fail_to_start(self, *arguments: str, **environ: str) -> str:
        """The output of a server that ends with an error instead of starting."""
        directory = Path(self.mktemp())
        directory.mkdir()
        ended = run_twistd(
            directory, test_environment(environ), "-n", "--pidfile=", "wow", *arguments
        )
        self.assertEqual(ended.returncode, 1, ended.stdout)
        self.assertNotIn("Traceback", ended.stdout)
        return ended.stdout

    def test_address_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            for name, value in (("WOW_LISTEN", json.dumps([taken])), ("WOW_ADMIN__LISTEN", taken)):
                output = self.fail_to_start(**{name: value})
                self.assertIn("cannot_listen", output)
                self.assertIn("in use", output)
                self.assertIn(taken, output)

    def test_bad_configuration(self) -> None:
        output = self.fail_to_start(WOW_POW__ROUNDS="0", WOW_PWO__EFFORT="1", WOW_KEYS="short")
        for key in ("pow.rounds", "pwo", "keys"):
            self.assertIn(f"wow: {key}", output)
        self.assertNotIn("listening", output)

    def test_store_that_cannot_be_used(self) -> None:
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        server = self.start(WOW_SPENT__URL=f"lmdb:{path}")
        (boot,) = path.iterdir()
        server.stop()
        shutil.rmtree(boot)
        boot.write_text("a file")
        self.assertIn("cannot_start", self.fail_to_start(WOW_SPENT__URL=f"lmdb:{path}"))


class Background(Running):
    """Without -n, twistd leaves its server running in the background."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def launch(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run twistd to the end of its foreground."""
        environment = test_environment(environ)
        del environment["WOW_LOG__FORMAT"]
        return run_twistd(self.directory, environment, *arguments, "wow")

    def events(self) -> list[str]:
        log = self.directory / "twistd.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [json.loads(line)["event"] for line in lines]

    def running(self, pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def end(self, pid: int) -> None:
        if self.running(pid):
            os.kill(pid, signal.SIGKILL)

    def test_log_and_signals(self) -> None:
        ended = self.launch()
        self.assertEqual((ended.returncode, ended.stdout), (0, ""))
        wait_until(lambda: "started" in self.events())
        pid = int((self.directory / "twistd.pid").read_text())
        self.addCleanup(self.end, pid)
        os.kill(pid, signal.SIGUSR1)
        wait_until((self.directory / "twistd.log.1").exists)
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "reloaded" in self.events())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not self.running(pid))
        self.assertIn("stopped", self.events())
        self.assertFalse((self.directory / "twistd.pid").exists())

    def test_failing_start_is_told_of(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            ended = self.launch(WOW_LISTEN=json.dumps([taken]))
        self.assertEqual(ended.returncode, 1)
        self.assertIn("cannot listen", ended.stdout)
        self.assertIn("cannot_listen", self.events())
        self.assertFalse((self.directory / "twistd.pid").exists())


class Operators(Running):
    def test_metrics(self) -> None:
        server = self.start()
        client = self.connect(server)
        client.quote()
        client.say({"type": "request", "resource": "riches"})
        for line, value in (
            ('wow_requests_total{type="request"}', 2),
            ('wow_outcomes_total{code="ok",type="solution"}', 1),
            ('wow_outcomes_total{code="unknown_resource",type="request"}', 1),
            ('wow_answer_duration_seconds_count{type="solution"}', 1),
            ("wow_effort_asked_hashes_total", 64),
            ("wow_effort_paid_hashes_total", 64),
            ("wow_price_hashes", 64),
            ("wow_connections", 1),
            ("wow_clients", 1),
            ('wow_quotes_taken_total{source="collection"}', 1),
            ("wow_spent_usable", 1),
        ):
            self.assertEqual(server.metric(line), value, line)
        self.assertGreater(server.metric("wow_quotes_pooled"), 100)
        self.assertGreater(server.metric("process_resident_memory_bytes"), 10**6)
        wait_until(lambda: server.metric("wow_spent_entries") == 1)

    def test_health(self) -> None:
        server = self.start()
        self.assertEqual(server.page("/health/live")[0], 200)
        status, body = server.page("/health/ready")
        self.assertEqual(status, 200)
        self.assertEqual(json.loads(body)["quotes"]["lives_from"], "collection")

    def test_log_says_where_quotes_come_from(self) -> None:
        event = self.start().wait_for("quotes_source_changed")
        self.assertEqual(event["source"], "collection")

    def test_no_key_in_any_output(self) -> None:
        key = base64.b64encode(os.urandom(32)).decode()
        server = self.start(WOW_KEYS=key, WOW_LOG__LEVEL="debug")
        self.connect(server).quote()
        pages = [server.page(path)[1] for path in ("/metrics", "/health/ready", "/")]
        server.stop()
        self.assertNotIn(key, "".join(pages) + json.dumps(server.events))
