"""A server of many processes, on real sockets, serves as one, whatever happens to any of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.redis_server import Relay, Valkey
from tests.running import (
    PATIENCE,
    Client,
    Message,
    Running,
    Server,
    run_twistd,
    solve,
    test_environment,
    wait_until,
)
from tests.test_tls import EXPIRY, Encrypted
from wow.test.certificates import issue

NETWORKS = [f"127.{number}.0.1" for number in range(1, 41)]
"""Addresses in as many networks: if one worker got all of them, that would be odd."""


def alive(pid: int) -> bool:
    """Whether a process runs. One that has ended, and is not reaped, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Workers(Running):
    def begin(self, directory: Path | None = None, *arguments: str, **options: Any) -> Server:
        """A server of two workers, both of them ready."""
        server = self.start(directory, *arguments, **{"WOW_WORKERS": "2", **options})
        for worker in (1, 2):
            server.wait_for("worker_ready", worker=worker)
        return server

    def pid(self, server: Server, worker: int) -> int:
        return int(server.seen("worker_ready", worker=worker)[-1]["pid"])

    def pids(self, server: Server) -> list[int]:
        return [self.pid(server, worker) for worker in (1, 2)]

    def replaced(self, server: Server, worker: int, pid: int) -> None:
        """Wait until there is another worker in the place of one."""
        wait_until(lambda: self.pid(server, worker) != pid)

    def served(self, server: Server) -> list[int]:
        """How many quotes each worker has served."""
        workers = json.loads(server.page("/health/ready")[1])["workers"]
        return [worker["quotes"]["served"] for worker in workers]

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid))

    def end(self, pid: int) -> None:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


class Load:
    """
    Clients in threads, each from a network of its own: they connect, and get a
    quote, again and again.

    @ivar quotes: how many they got.
    @ivar failures: what they got instead, by when that connection was begun.
    """

    def __init__(self, server: Server, sources: list[str]) -> None:
        self.quotes = 0
        self.failures: dict[float, str] = {}
        self._server = server
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._go, args=(each,)) for each in sources]
        for thread in self._threads:
            thread.start()

    def _go(self, source: str) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                self._exchange(source)
            except (OSError, AssertionError) as failed:
                self.failures[begun] = repr(failed)

    def _exchange(self, source: str) -> None:
        with self._server.connect(source) as client:
            solution = client.solution()
            answer = client.say(solution)
            assert answer["type"] == "quote", answer
        self.quotes += 1
        with self._server.connect(source) as client:
            answer = client.say(solution)
            assert answer.get("code") == "replayed", answer

    def go_on(self) -> None:
        """Wait for some more quotes."""
        before = self.quotes
        wait_until(lambda: self.quotes > before + 20)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)


class Together(Workers):
    def test_all_serve(self) -> None:
        server = self.begin()
        for source in NETWORKS:
            self.assertEqual(self.connect(server, source).quote()["type"], "quote")
        served = self.served(server)
        self.assertEqual(sum(served), len(NETWORKS))
        self.assertGreater(min(served), 0)

    def test_a_network_meets_one_of_them(self) -> None:
        server = self.begin()
        for host in range(1, 21):
            self.connect(server, f"127.5.0.{host}").quote()
        self.assertEqual(sorted(self.served(server)), [0, 20])

    def test_both_families_at_one_endpoint(self) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            # There is but one here.
            return
        server = self.begin(WOW_LISTEN='["tcp:0:interface=\\\\:\\\\:"]')
        self.assertEqual(server.seen("not_steered"), [])
        for source in NETWORKS:
            self.connect(server, source).quote()
        client = Client.__new__(Client)
        client.socket = socket.create_connection(("::1", server.address[1]), PATIENCE)
        self.addCleanup(client.close)
        self.assertEqual(client.quote()["type"], "quote")
        self.assertGreater(min(self.served(server)), 0)

    def test_challenge_of_one_is_good_at_the_other(self) -> None:
        # Which only those who are bound to nothing can notice.
        self.check_good_once(self.begin(WOW_POW__BIND="false"))

    def test_also_with_a_store_that_machines_share(self) -> None:
        valkey = Valkey()
        self.addCleanup(valkey.remove)
        relay = Relay(valkey.socket)
        self.addCleanup(relay.close)
        url = f"redis://127.0.0.1:{relay.port}/0"
        server = self.begin(WOW_POW__BIND="false", WOW_SPENT__URL=url, WOW_SPENT__TIMEOUT="5")
        wait_until(lambda: server.page("/health/ready")[0] == 200)
        self.assertEqual(server.metric("wow_spent_reachable"), 1)
        self.check_good_once(server)

    def check_good_once(self, server: Server) -> None:
        """See that solutions are good wherever they are handed in, and once."""
        solutions = [self.connect(server, source).solution() for source in NETWORKS]
        answers = Counter(
            str(answer.get("code", answer["type"]))
            for source, solution in zip(NETWORKS * 2, solutions[1:] * 2, strict=False)
            for answer in [self.connect(server, source).say(solution)]
        )
        count = len(solutions) - 1
        self.assertEqual(answers, {"quote": count, "replayed": count})

    def test_limits_of_a_client_hold_for_all(self) -> None:
        server = self.begin(
            WOW_LIMITS__CLIENT_CONNECTIONS="3",
            WOW_LIMITS__CHALLENGE_BURST="5",
            WOW_LIMITS__CHALLENGE_RATE="0.001",
        )
        for source in NETWORKS[:10]:
            open_ones = [self.connect(server, source) for _ in range(3)]
            for client in open_ones[:2]:
                client.challenge()
                client.challenge()
            open_ones[2].challenge()
            self.assertEqual(open_ones[2].say({"type": "request"})["code"], "rate_limited")
            refused = self.connect(server, source).hear()
            assert refused is not None
            self.assertEqual(refused["code"], "busy")

    def test_unix_socket(self) -> None:
        path = Path(self.mktemp()).absolute()
        server = self.begin(WOW_LISTEN=json.dumps([f"unix:{path}"]))
        for _ in range(5):
            self.assertEqual(self.unix(path).quote()["type"], "quote")
        server.signal(signal.SIGHUP)
        server.wait_for("replaced")
        self.assertEqual(self.unix(path).quote()["type"], "quote")
        server.stop()
        self.assertFalse(path.exists())

    def unix(self, path: Path) -> Client:
        client = Client.__new__(Client)
        client.socket = socket.socket(socket.AF_UNIX)
        client.socket.settimeout(PATIENCE)
        client.socket.connect(os.path.relpath(path))
        self.addCleanup(client.close)
        return client

    def test_log_lines_say_whose_they_are(self) -> None:
        server = self.begin(WOW_LOG__LEVEL="debug")
        for source in NETWORKS:
            self.connect(server, source).say({"type": "request", "resource": "riches"})
        wait_until(lambda: len(server.seen("refused")) == len(NETWORKS))
        told = Counter(event["worker"] for event in server.seen("refused"))
        self.assertEqual(set(told), {1, 2})

    def test_port_in_use(self) -> None:
        taken = self.begin().address[1]
        directory = Path(self.mktemp())
        directory.mkdir()
        listen = json.dumps([f"tcp:{taken}:interface=127.0.0.1"])
        environ = test_environment({"WOW_WORKERS": "2", "WOW_LISTEN": listen})
        ended = run_twistd(directory, environ, "-n", "--pidfile=", "wow")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("in use", ended.stdout)
        self.assertNotIn("Traceback", ended.stdout)


class Layered(Encrypted, Workers):
    """With what lies between sockets and workers."""

    def test_certificate_is_renewed_with_the_workers(self) -> None:
        server = self.start_encrypted(WOW_WORKERS="2")
        for source in NETWORKS[:10]:
            self.assertEqual(self.connect(server, source).quote()["type"], "quote")
        before = server.metric(EXPIRY)
        self.issued = issue(ends=datetime.now(UTC) + timedelta(days=9))
        self.put(self.issued)
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.metric(EXPIRY) > before)
        for source in NETWORKS[:10]:
            self.assertEqual(self.connect(server, source).quote()["type"], "quote")

    def test_clients_of_a_balancer_are_spread(self) -> None:
        server = self.begin(
            WOW_LISTEN='["haproxy:tcp:0:interface=127.0.0.1"]', WOW_PROXY__NETWORKS='["127.7.0.1"]'
        )
        self.assertEqual(server.seen("not_steered"), [])
        for _ in range(40):
            client = Client(server.address, "127.7.0.1")
            self.addCleanup(client.close)
            client.socket.sendall(b"PROXY TCP4 198.51.100.7 192.0.2.1 56324 7777\r\n")
            self.assertEqual(client.quote()["type"], "quote")
        self.assertGreater(min(self.served(server)), 0)


class Activated(Workers):
    """By systemd, or whoever else listens before there is a server."""

    def activate(self, **options: Any) -> Server:
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        self.early = socket.create_connection(listening.getsockname(), PATIENCE)
        server = self.start(
            listening=listening, WOW_LISTEN='["systemd:domain=INET:index=0"]', **options
        )
        server.address = listening.getsockname()
        return server

    def check_serves(self, server: Server) -> None:
        early = Client.__new__(Client)
        early.socket = self.early
        self.addCleanup(early.close)
        self.assertEqual(early.quote()["type"], "quote")
        self.assertEqual(self.connect(server).quote()["type"], "quote")

    def test_alone(self) -> None:
        self.check_serves(self.activate())

    def test_workers(self) -> None:
        server = self.activate(WOW_WORKERS="2")
        self.check_serves(server)
        self.assertEqual(len(server.seen("not_steered")), 1)
        for worker in (1, 2):
            server.wait_for("worker_ready", worker=worker)
        server.signal(signal.SIGHUP)
        server.wait_for("replaced")
        self.assertEqual(self.connect(server).quote()["type"], "quote")

    def test_unix_socket_is_left_as_it_is(self) -> None:
        for workers in ("1", "2"):
            # A path of a socket may have no more than some hundred characters.
            folder = Path(tempfile.mkdtemp())
            self.addCleanup(shutil.rmtree, folder)
            path = folder / "socket"
            listening = socket.socket(socket.AF_UNIX)
            self.addCleanup(listening.close)
            listening.bind(str(path))
            path.chmod(0o600)
            listening.listen()
            server = self.start(
                listening=listening,
                WOW_LISTEN='["systemd:domain=UNIX:index=0"]',
                WOW_WORKERS=workers,
            )
            server.stop()
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)


class Dying(Workers):
    def test_killed_one_is_replaced_and_nobody_who_comes_is_refused(self) -> None:
        server = self.begin()
        first, second = self.pids(server)
        load = Load(server, NETWORKS[:8])
        load.go_on()
        self.kill(first)
        killed = time.monotonic()
        load.go_on()
        self.replaced(server, 1, first)
        load.go_on()
        load.end()
        # It took the connections that it had with it.
        self.assertEqual([why for begun, why in load.failures.items() if begun > killed], [])
        self.assertFalse([why for why in load.failures.values() if "Refused" in why])
        self.assertEqual(self.pid(server, 2), second)
        self.assertEqual(server.wait_for("worker_lost")["worker"], 1)
        self.assertEqual(server.metric('wow_worker_restarts_total{reason="died"}'), 1)

    def test_again_and_again(self) -> None:
        server = self.begin()
        for _ in range(4):
            pid = self.pid(server, 2)
            self.kill(pid)
            self.replaced(server, 2, pid)
        for source in NETWORKS[:10]:
            self.assertEqual(self.connect(server, source).quote()["type"], "quote")
        self.assertEqual(server.metric("wow_workers"), 2)

    def test_one_that_does_not_answer_is_replaced(self) -> None:
        server = self.begin()
        first = self.pid(server, 1)
        os.kill(first, signal.SIGSTOP)
        self.addCleanup(self.end, first)
        status, body = server.page("/health/ready")
        self.assertEqual((status, json.loads(body)["reasons"]), (503, {"workers": "1 of 2 answer"}))
        load = Load(server, NETWORKS[:8])
        self.replaced(server, 1, first)
        load.go_on()
        load.end()
        self.assertEqual(load.failures, {})
        self.assertEqual(server.metric('wow_worker_restarts_total{reason="silent"}'), 1)

    def test_crash_loop_ends_the_server_with_an_error(self) -> None:
        server = self.start(WOW_WORKERS="2", PYTHONPATH=self.fault("raise SystemExit(3)"))
        self.assertEqual(server.wait_for("crash_loop")["level"], "error")
        self.assertEqual(server.wait(), 1)
        self.assertIn("exit code 3", server.seen("crash_loop")[0]["reason"])

    def test_what_a_worker_complains_of_is_in_the_log(self) -> None:
        server = self.start(WOW_WORKERS="2", PYTHONPATH=self.fault("raise ValueError('oops')"))
        self.assertIn(
            "ValueError: oops", server.wait_for("worker_says", text="ValueError: oops")["text"]
        )
        self.assertEqual(server.wait(), 1)

    def fault(self, statement: str) -> str:
        """What has each worker meet a fault as it begins."""
        fault = Path(self.mktemp()).absolute()
        fault.mkdir()
        (fault / "sitecustomize.py").write_text(
            "import sys\n"
            "if 'wow.workers' in sys.orig_argv:\n"
            "    import wow.assembly.server\n"
            "    def build(*_):\n"
            f"        {statement}\n"
            "    wow.assembly.server.build = build\n"
        )
        return str(fault)

    def test_none_waits_for_a_parent_that_is_stopped(self) -> None:
        server = self.begin(WOW_LOG__LEVEL="debug")
        pids = self.pids(server)
        # Told to let clients in, and not only about to be.
        self.assertEqual(server.metric("wow_workers"), 2)
        server.signal(signal.SIGSTOP)
        self.addCleanup(server.signal, signal.SIGCONT)
        # More lines than a pipe holds.
        for source in NETWORKS[:4]:
            client = self.connect(server, source)
            for _ in range(500):
                client.say({"type": "request", "resource": "riches"})
        server.signal(signal.SIGCONT)
        self.assertEqual(server.metric("wow_workers"), 2)
        self.assertEqual(self.pids(server), pids)
        lines = [event["event"] for event in server.events]
        self.assertLess(lines.count("refused"), 2000)
        self.assertFalse([line for line in lines if "{" in line])

    def test_none_outlives_its_parent(self) -> None:
        server = self.begin()
        pids = self.pids(server)
        client = self.connect(server)
        challenge = client.challenge()
        server.process.kill()
        server.process.wait(PATIENCE)
        # What is under way is finished.
        self.assertEqual(client.say(solve(challenge))["type"], "quote")
        wait_until(lambda: not any(map(alive, pids)))
        with socket.create_server(server.address):
            pass


class Reloading(Workers):
    def configure(self, **sections: Any) -> None:
        self.file.write_text(json.dumps(sections))

    def setUp(self) -> None:
        self.file = Path(self.mktemp()).absolute()
        self.configure()

    def begin_configured(self, **options: Any) -> Server:
        return self.begin(None, "--config", str(self.file), **options)

    def hang_up(self, server: Server) -> None:
        server.signal(signal.SIGHUP)

    def test_all_are_replaced_and_nobody_notices(self) -> None:
        server = self.begin_configured()
        load = Load(server, NETWORKS[:8])
        for replaced in (2, 4, 6):
            load.go_on()
            self.hang_up(server)
            wait_until(lambda: len(server.seen("worker_ready")) == 2 + replaced)  # noqa: B023
            load.go_on()
        load.end()
        self.assertEqual(load.failures, {})
        pids = {event["pid"] for event in server.seen("worker_ready")}
        self.assertEqual(len(pids), 8)
        self.assertEqual(server.metric('wow_worker_restarts_total{reason="reload"}'), 6)
        self.assertEqual(server.metric('wow_worker_restarts_total{reason="died"}'), 0)

    def test_who_waits_in_the_queue_is_served(self) -> None:
        server = self.begin_configured()
        pids = self.pids(server)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        waiting = [self.connect(server, source) for source in NETWORKS]
        self.hang_up(server)
        for client in waiting:
            self.assertEqual(client.quote()["type"], "quote")
        for pid in pids:
            wait_until(lambda: not alive(pid))  # noqa: B023

    def test_exchange_under_way_is_finished(self) -> None:
        server = self.begin_configured()
        old = self.pids(server)
        asked, silent = self.connect(server), self.connect(server, "127.0.0.2")
        challenge = asked.challenge()
        wait_until(lambda: server.metric("wow_connections") == 2)
        self.hang_up(server)
        server.wait_for("replaced")
        self.assertEqual(asked.say(solve(challenge))["type"], "quote")
        self.assertEqual(silent.quote()["type"], "quote")
        for client in (asked, silent):
            answer = client.hear()
            assert answer is not None
            self.assertEqual(answer["code"], "shutting_down")
        wait_until(lambda: not any(map(alive, old)))

    def test_what_was_spent_stays_spent(self) -> None:
        server = self.begin_configured()
        client = self.connect(server)
        solution = client.solution()
        self.assertEqual(client.say(solution)["type"], "quote")
        unspent = self.connect(server).solution()
        self.hang_up(server)
        server.wait_for("replaced")
        self.assertEqual(self.connect(server).say(solution)["code"], "replayed")
        self.assertEqual(self.connect(server).say(unspent)["type"], "quote")

    def lives(self, server: Server) -> float:
        """Seconds that a challenge lives."""
        with server.connect() as client:
            return float(client.challenge()["expires_in"])

    def test_new_settings_are_in_force(self) -> None:
        server = self.begin_configured()
        self.configure(pow={"ttl": 7})
        self.hang_up(server)
        wait_until(lambda: self.lives(server) == 7)

    def test_wrong_settings_are_not(self) -> None:
        server = self.begin_configured()
        pids = self.pids(server)
        self.configure(pow={"ttl": 7, "floor": 0})
        self.hang_up(server)
        self.assertIn("pow.floor", server.wait_for("reload_refused")["reason"])
        self.assertEqual(self.lives(server), 60)
        self.assertEqual(self.pids(server), pids)

    def test_settings_that_no_worker_can_begin_with_are_not(self) -> None:
        server = self.begin_configured()
        pids = self.pids(server)
        url = f"lmdb:{self.unusable_store()}"
        self.configure(pow={"ttl": 7}, spent={"url": url})
        self.hang_up(server)
        self.assertIn("did not start", server.wait_for("reload_refused")["reason"])
        self.assertEqual(self.lives(server), 60)
        self.assertEqual(self.pids(server), pids)
        self.kill(pids[0])
        self.replaced(server, 1, pids[0])
        self.assertEqual(self.lives(server), 60)

    def unusable_store(self) -> Path:
        """A folder that a store was in until a file took the place of it."""
        store = Path(self.mktemp()).absolute()
        store.mkdir()
        server = self.start(WOW_SPENT__URL=f"lmdb:{store}")
        (boot,) = store.iterdir()
        server.stop()
        shutil.rmtree(boot)
        boot.write_text("a file")
        return store

    def test_lists_are_in_force_without_new_workers(self) -> None:
        server = self.begin_configured()
        pids = self.pids(server)
        denied = [self.connect(server, source) for source in NETWORKS[:10]]
        for client in denied:
            client.challenge()
        self.configure(limits={"deny": ["127.0.0.0/8"], "allow": ["127.77.0.1"]})
        self.hang_up(server)
        for client in denied:
            self.assertIsNone(client.hear())
        self.assertEqual(self.connect(server, "127.77.0.1").quote()["type"], "quote")
        self.assertEqual(self.pids(server), pids)
        self.kill(pids[0])
        self.replaced(server, 1, pids[0])
        for source in NETWORKS[:10]:
            self.assertTrue(self.is_reset(server, source))

    def is_reset(self, server: Server, source: str) -> bool:
        try:
            return self.connect(server, source).hear() is None
        except ConnectionResetError:
            return True

    def test_keys_are_rotated_without_losing_a_proof(self) -> None:
        keys = Path(self.key_file())
        self.configure(keys={"file": str(keys)})
        server = self.begin_configured()
        solution = self.connect(server).solution()
        newer = Path(self.key_file()).read_text()
        keys.write_text(f"{newer}\n{keys.read_text()}")
        self.hang_up(server)
        server.wait_for("replaced")
        self.assertEqual(self.connect(server).say(solution)["type"], "quote")
        self.assertEqual(len(server.seen("keys")[-1]["ids"].split()), 2)


class Stopping(Workers):
    def test_exchanges_under_way_are_finished(self) -> None:
        server = self.begin()
        clients = [self.connect(server, source) for source in NETWORKS[:10]]
        challenges = [client.challenge() for client in clients]
        server.signal(signal.SIGTERM)
        for worker in (1, 2):
            server.wait_for("draining", worker=worker)
        self.assertRaises(ConnectionRefusedError, server.connect)
        self.assertEqual(server.page("/health/live")[0], 200)
        status, body = server.page("/health/ready")
        self.assertEqual((status, json.loads(body)["reasons"]), (503, {"gate": "shutting down"}))
        for client, challenge in zip(clients, challenges, strict=True):
            self.assertEqual(client.say(solve(challenge))["type"], "quote")
        self.assertEqual(server.wait(), -signal.SIGTERM)
        self.assertEqual(server.seen("worker_lost"), [])

    def test_second_signal_hurries(self) -> None:
        server = self.begin(WOW_LIMITS__DRAIN="1000")
        client = self.connect(server)
        client.challenge()
        server.signal(signal.SIGTERM)
        for worker in (1, 2):
            server.wait_for("draining", worker=worker)
        server.signal(signal.SIGTERM)
        answer = client.hear()
        assert answer is not None
        self.assertEqual(answer["code"], "shutting_down")
        self.assertEqual(server.wait(), -signal.SIGTERM)

    def test_signals_to_a_worker_are_its_parents(self) -> None:
        # As when a terminal, or systemd, sends them to all.
        server = self.begin()
        pids = self.pids(server)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            for pid in pids:
                os.kill(pid, number)
        for source in NETWORKS[:10]:
            self.assertEqual(self.connect(server, source).quote()["type"], "quote")
        self.assertEqual(self.pids(server), pids)


class Operators(Workers):
    def quotes(self, server: Server) -> float:
        return server.metric('wow_outcomes_total{code="ok",type="solution"}')

    def test_metrics_are_sums_and_never_go_back(self) -> None:
        server = self.begin()
        for source in NETWORKS:
            self.connect(server, source).quote()
        count = len(NETWORKS)
        self.assertEqual(self.quotes(server), count)
        self.assertEqual(server.metric("wow_connections"), count)
        self.assertEqual(server.metric("wow_workers"), 2)
        self.assertEqual(server.metric("wow_price_hashes"), 64)
        self.assertEqual(server.metric("wow_max_connections"), 10_000)
        first = self.pid(server, 1)
        self.kill(first)
        self.assertEqual(self.quotes(server), count)
        self.replaced(server, 1, first)
        self.assertEqual(self.quotes(server), count)
        server.signal(signal.SIGHUP)
        server.wait_for("replaced")
        self.assertEqual(self.quotes(server), count)
        for source in NETWORKS:
            self.connect(server, source).quote()
        self.assertEqual(self.quotes(server), 2 * count)

    def test_each_process_has_its_own(self) -> None:
        server = self.begin()
        for labels in ("", '{worker="1"}', '{worker="2"}'):
            self.assertGreater(server.metric(f"process_resident_memory_bytes{labels}"), 10**6)

    def test_last_counts_of_a_worker_are_not_lost(self) -> None:
        server = self.begin()
        client = self.connect(server)
        challenge = client.challenge()
        server.signal(signal.SIGHUP)
        server.wait_for("replaced")
        self.assertEqual(client.say(solve(challenge))["type"], "quote")
        client.close()
        wait_until(lambda: server.metric("wow_connections") == 0)
        self.assertEqual(self.quotes(server), 1)

    def test_health(self) -> None:
        server = self.begin()
        self.assertEqual(server.page("/health/live")[0], 200)
        status, body = server.page("/health/ready")
        self.assertEqual(status, 200)
        lives_from = [each["quotes"]["lives_from"] for each in json.loads(body)["workers"]]
        self.assertEqual(lives_from, ["collection"] * 2)

    def test_what_is_wrong_with_one_is_told(self) -> None:
        sources = [
            {
                "type": "http",
                "name": "gone",
                "url": "http://127.0.0.1:9/",
                "text": "t",
                "author": "a",
            }
        ]
        server = self.begin(WOW_QUOTES__SOURCES=json.dumps(sources))
        status, body = server.page("/health/ready")
        self.assertEqual((status, list(json.loads(body)["reasons"])), (503, ["quotes"]))


class Background(Workers):
    """Without -n, twistd leaves its server running in the background."""

    def test_log_signals_and_directory(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        environ = test_environment({"WOW_WORKERS": "2", "WOW_LOG__LEVEL": "debug"})
        ended = run_twistd(directory, environ, "wow")
        self.assertEqual((ended.returncode, ended.stdout), (0, ""))
        log = directory / "twistd.log"
        wait_until(lambda: len(self.logged(log, "worker_ready")) == 2)
        pid = int((directory / "twistd.pid").read_text())
        self.addCleanup(self.end, pid)
        port = self.logged(log, "listening")[-1]["port"]
        os.kill(pid, signal.SIGUSR1)
        wait_until((directory / "twistd.log.1").exists)
        for source in NETWORKS:
            with Client(("127.0.0.1", port), source) as client:
                client.say({"type": "request", "resource": "riches"})
        wait_until(lambda: len(self.logged(log, "refused")) == len(NETWORKS))
        self.assertTrue((directory / "var" / "spent").is_dir())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not alive(pid))
        self.assertEqual(len(self.logged(log, "stopped")), 3)
        self.assertFalse((directory / "twistd.pid").exists())

    def logged(self, log: Path, event: str) -> list[Message]:
        lines = log.read_text().splitlines() if log.exists() else []
        events = [json.loads(line) for line in lines]
        return [each for each in events if each["event"] == event]
