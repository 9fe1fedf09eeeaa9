"""A server under load, looked at from within while it serves."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import servers
from tests.honest import Honest
from tests.running import PATIENCE, Running, wait_until

TOKEN = "an-operators-token"
NETWORK = "127.41"

AT_WORK = "GateProtocol.dataReceived"
"""What a server executes that answers."""


class Looked(Running):
    """
    @ivar which: the process that is looked at, as an argument.
    """

    workers = "1"
    which = ""

    def setUp(self) -> None:
        self.server = self.start(None, WOW_WORKERS=self.workers)
        wait_until(lambda: self.server.page("/health/ready")[0] == 200)

    def under_load(self) -> Honest:
        honest = Honest(self.server.address, NETWORK, clients=2)
        self.addCleanup(honest.stop)
        wait_until(lambda: honest.served > 0)
        return honest

    def path(self, page: str, **arguments: Any) -> str:
        query = urllib.parse.urlencode(arguments)
        return f"/debug/{page}?{'&'.join(filter(None, (query, self.which)))}"

    def look(self, page: str, **arguments: Any) -> str:
        status, said = self.server.page(self.path(page, **arguments))
        self.assertEqual(status, 200, said)
        return said

    def fetch(self, page: str, **arguments: Any) -> bytes:
        host, port = self.server.admin
        url = f"http://{host}:{port}{self.path(page, **arguments)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return bytes(answer.read())


class Profile(Looked):
    def test_formats(self) -> None:
        honest = self.under_load()
        before = honest.served
        self.check_text(self.seen_at_work("text").decode())
        # Nobody waited for it.
        self.assertGreater(honest.served, before)
        page = self.seen_at_work("html").decode()
        self.assertTrue(page.startswith("<!DOCTYPE html>"))
        self.check_speedscope(json.loads(self.seen_at_work("speedscope")))
        self.check_pprof(self.seen_at_work("pprof"))

    def seen_at_work(self, form: str) -> bytes:
        """A profile in which answering was seen. A busy machine may leave no time for that."""
        for _ in range(20):
            profile = self.fetch("profile", seconds=1, format=form)
            if AT_WORK.encode() in (gzip.decompress(profile) if form == "pprof" else profile):
                return profile
        raise AssertionError("it was never seen at work")

    def check_text(self, said: str) -> None:
        self.assertRegex(said, r"^\d+\.\d ms of CPU time in 1\.\d\d s \(")
        self.assertIn("mainLoop", said)

    def check_speedscope(self, profile: Any) -> None:
        self.assertEqual(profile["$schema"], "https://www.speedscope.app/file-format-schema.json")
        frames = profile["shared"]["frames"]
        self.assertIn(AT_WORK, {frame["name"] for frame in frames})
        (events,) = [each["events"] for each in profile["profiles"]]
        self.assertTrue(all(0 <= event["frame"] < len(frames) for event in events))
        times = [event["at"] for event in events]
        self.assertEqual(times, sorted(times))

    def check_pprof(self, encoded: bytes) -> None:
        """Go's own tool reads it. It is compiled first, where it never was."""
        profile = Path(self.mktemp())
        profile.write_bytes(encoded)
        ended = subprocess.run(
            [
                servers.find_go(),
                "tool",
                "pprof",
                "-top",
                "-nodefraction=0",
                "-nodecount=500",
                str(profile),
            ],
            env={**servers.go_environment(), "PPROF_TMPDIR": str(profile.parent.absolute())},
            capture_output=True,
            text=True,
            timeout=5 * PATIENCE,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIn("Type: cpu\n", ended.stdout)
        rows = re.findall(r"^ *\S+ +\S+% +\S+% +\S+ +(\S+)% +(\S+)", ended.stdout, re.MULTILINE)
        cum = {name: float(share) for share, name in rows}
        self.assertGreater(cum[AT_WORK], 0)
        self.assertGreaterEqual(cum["Lane.served.<locals>.poll"], cum[AT_WORK])

    def test_one_at_a_time(self) -> None:
        with ThreadPoolExecutor() as pool:
            first = pool.submit(self.look, "profile", seconds=2)
            self.wait_until_busy()
            for page in ("profile", "heap"):
                status, said = self.server.page(self.path(page, seconds=1))
                self.assertEqual(status, 409)
                self.assertIn("a profile of 2 seconds runs here", said)
            # What takes no time is told all the while.
            self.look("threads")
            first.result()
        self.look("heap", seconds=1)

    def wait_until_busy(self) -> None:
        wait_until(lambda: bool(self.server.seen("debug", page="profile")))

    def test_stops_when_the_asker_leaves(self) -> None:
        with socket.create_connection(self.server.admin) as asker:
            path = self.path("profile", seconds=60)
            asker.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            self.wait_until_busy()
        wait_until(lambda: self.server.page(self.path("profile", seconds=1))[0] == 200)


class Others(Looked):
    def test_they_tell(self) -> None:
        with self.connect(self.server, f"{NETWORK}.0.1") as client:
            client.challenge()
            said = self.look("reactor")
        self.assertIn("clients' connections: 1\n         1  solving\n", said)
        self.assertIn("wow.deadlines.Deadlines", said)
        said = self.look("threads")
        self.assertIn("\nMainThread\n", said)
        self.assertIn("mainLoop", said)
        self.assertRegex(self.look("gc"), r"objects: \d{3,}\n +\d+  \w")
        self.under_load()
        said = self.look("heap", seconds=1)
        self.assertRegex(said, r"^\d+\.\d KiB in \d+ blocks were allocated meanwhile")
        wait_until(lambda: "/wow/clients.py:" in self.look("heap", seconds=1))

    def test_list(self) -> None:
        """Each link of it leads somewhere."""
        links = re.findall(r'href="([a-z][^":]*)"', self.server.page("/debug/")[1])
        self.assertEqual(len(links), 8 * (int(self.workers) + 1 if self.workers != "1" else 1))
        for link in links:
            if not link.startswith(("profile", "heap")):
                path = f"/debug/{link.replace('&amp;', '&')}"
                self.assertEqual(self.server.page(path)[0], 200, path)


class OfWorker(Looked):
    """One of many, by way of its parent. All clients here are of one network, and so its."""

    workers = "2"

    def setUp(self) -> None:
        super().setUp()
        self.which = f"worker={self.who_serves()}"

    def who_serves(self) -> int:
        with self.connect(self.server, f"{NETWORK}.0.1") as client:
            client.challenge()
            for number in (1, 2):
                if "connections: 1\n" in self.server.page(f"/debug/reactor?worker={number}")[1]:
                    return number
        raise AssertionError("nobody does")


class ProfileOfWorker(OfWorker, Profile):
    pass


class OthersOfWorker(OfWorker, Others):
    pass


class Workers(Looked):
    workers = "2"

    def test_parent_too(self) -> None:
        self.assertIn("wow.workers", self.look("gc") + self.look("reactor"))

    def test_no_such_worker(self) -> None:
        status, said = self.server.page("/debug/gc?worker=3")
        self.assertEqual((status, said), (404, "There is no worker 3 just now.\n"))

    def test_both_at_the_same_time(self) -> None:
        with ThreadPoolExecutor() as pool:
            pages = [f"/debug/profile?seconds=1&worker={number}" for number in (1, 2)]
            self.assertEqual([each[0] for each in pool.map(self.server.page, pages)], [200, 200])

    def test_one_that_dies_meanwhile(self) -> None:
        worker = self.server.wait_for("worker_ready", worker=1)
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(self.server.page, "/debug/profile?seconds=60&worker=1")
            wait_until(lambda: bool(self.server.seen("debug", worker=1)))
            os.kill(worker["pid"], signal.SIGKILL)
            self.assertEqual(asked.result(), (502, "The worker ended meanwhile.\n"))


class Secrets(Running):
    """Nothing of what is secret, and of no client its address."""

    def test_in_no_page(self) -> None:
        for workers, which in (("1", ""), ("2", "&worker=1")):
            server = self.start(
                None,
                WOW_WORKERS=workers,
                WOW_ADMIN__TOKEN=TOKEN,
                WOW_KEYS=(key := "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I="),
            )
            authorized = {"Authorization": f"Bearer {TOKEN}"}
            self.assertEqual(server.page("/debug/gc")[0], 401)
            pages = ["heap?seconds=1", "threads?", "reactor?", "gc?", "profile?seconds=1"]
            pages.append("profile?seconds=1&format=html")
            honest = Honest(server.address, "127.42", clients=1)
            self.addCleanup(honest.stop)
            wait_until(lambda served=honest: served.served > 0)  # type: ignore[misc]
            for page in pages:
                host, port = server.admin
                request = urllib.request.Request(
                    f"http://{host}:{port}/debug/{page}{which}", headers=authorized
                )
                with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                    said = answer.read().decode()
                for secret in (TOKEN, key, "secret-secret", "127.42."):
                    self.assertNotIn(secret, said, page)
            honest.stop()


class Unused(Running):
    def test_is_not_imported_before_somebody_asks(self) -> None:
        script = "import sys, wow.tap, wow.assembly.server; print(*sys.modules)"
        ended = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE
        )
        modules = set(ended.stdout.split())
        self.assertIn("wow.debug.debugger", modules)
        for heavy in ("pyinstrument", "tracemalloc", "wow.debug.state", "wow.debug.sampler"):
            self.assertNotIn(heavy, modules)
