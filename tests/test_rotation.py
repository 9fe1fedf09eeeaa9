"""
A rotation of keys with C{wow keys} and C{wow reload}, on three servers that share a
spent store, under honest load: challenges are issued by each, and handed in to
another that may be at another stage.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tests.honest import Honest
from tests.running import PATIENCE, Message, Running, Server, wait_until
from wow.pow import keys

WOW = str(Path(sys.executable).parent / "wow")
TTL, SKEW = 14, 1
"""
Long enough that no honest client is ever late, and short enough to be waited for.
"""
WITH_WORKERS = (0,)
"""The numbers of servers that have a parent, and workers that are replaced."""

ENOUGH = 8
"""Exchanges after which things count as going on."""


class Replicas(Running):
    ttl = TTL

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        # The operator's, of which each server has a copy.
        self.file = self.folder / "wow.keys"
        self.say("keygen", str(self.file))
        (self.old,) = self.ids()
        self.servers = [self.start_server(number) for number in range(3)]

    def start_server(self, number: int) -> Server:
        self.distribute(number)
        return self.start(
            self.folder / f"{number}",
            WOW_WORKERS="2" if number in WITH_WORKERS else "1",
            WOW_SPENT__URL=f"lmdb:{self.folder / 'spent'}",
            WOW_KEYS__FILE=str(self.copy(number)),
            WOW_POW__TTL=str(self.ttl),
            WOW_POW__SKEW=str(SKEW),
        )

    def copy(self, number: int) -> Path:
        return self.folder / f"{number}.keys"

    def distribute(self, number: int) -> None:
        """As an operator does it: no server sees half a file."""
        new = self.folder / "copy"
        shutil.copy(self.file, new)
        new.rename(self.copy(number))

    def say(self, *words: str, code: int = 0) -> str:
        """Run C{wow}."""
        ran = subprocess.run([WOW, *words], capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(ran.returncode, code, ran.stdout + ran.stderr)
        return ran.stdout + ran.stderr

    def keys(self, *words: str, code: int = 0) -> str:
        return self.say("keys", *words, "--file", str(self.file), code=code)

    def ids(self) -> list[str]:
        return keys.read(self.file).ids()

    def retire(self, key_id: str, code: int = 0) -> str:
        config = self.folder / "wow.yaml"
        config.write_text(f"pow: {{ttl: {self.ttl}, skew: {SKEW}}}\n")
        return self.keys("retire", key_id, "--config", str(config), code=code)

    def roles(self) -> set[str]:
        """What servers are to say of the keys in the file."""
        first, *others = self.ids()
        return {
            f'wow_keys{{id="{first}",role="signs"}} 1.0',
            *(f'wow_keys{{id="{each}",role="verifies"}} 1.0' for each in others),
        }

    def is_over(self, time_of_it: float) -> bool:
        return time.monotonic() > time_of_it

    def is_in_force(self, server: Server) -> bool:
        lines = server.page("/metrics")[1].splitlines()
        return {line for line in lines if line.startswith("wow_keys{")} == self.roles()


class Rotation(Replicas):
    def setUp(self) -> None:
        super().setUp()
        self.handed_in: list[Message] = []
        first, *others = (server.address for server in self.servers)
        self.honest = Honest(first, "127.40", others=others)
        self.addCleanup(self.honest.stop)
        self.wait_for_more()

    def reload(self, most: int = 3) -> None:
        """
        One server after the other has the file by now, with clients served at
        each stage, who hand in at one what another has issued before.

        @param most: how many of them.
        """
        for number, server in enumerate(self.servers[:most]):
            before = [self.solution(each) for each in self.servers]
            self.distribute(number)
            self.assertEqual(self.say("reload", f"127.0.0.1:{server.admin[1]}"), "reloaded\n")
            wait_until(partial(self.is_in_force, server))
            after = [self.solution(each) for each in self.servers]
            for solutions in (before, after):
                self.hand_in(solutions)
            self.wait_for_more()

    def solution(self, server: Server) -> Message:
        with server.connect("127.41.0.1") as client:
            return client.solution()

    def hand_in(self, solutions: list[Message]) -> None:
        """Each to the server after the one that it is from."""
        for number, solution in enumerate(solutions):
            with self.servers[(number + 1) % 3].connect("127.41.0.1") as client:
                self.handed_in.append(client.say(solution))

    def wait_for_more(self) -> None:
        """Wait until clients are served, from now on."""
        enough = self.honest.served + ENOUGH
        wait_until(lambda: self.honest.served >= enough)

    def refused(self) -> Counter[str]:
        """What was not served of all that was paid for, by code."""
        self.honest.stop()
        codes = Counter(str(each.get("code", each["type"])) for each in self.handed_in)
        del codes["quote"]
        return codes + self.honest.lost

    def test_no_proof_is_lost(self) -> None:
        self.keys("add")
        new = self.ids()[1]
        self.reload()
        self.keys("promote", new)
        self.assertIn("--force", self.retire(self.old, code=1))
        self.reload()
        expires = time.monotonic() + TTL + SKEW
        wait_until(partial(self.is_over, expires))
        self.retire(self.old)
        self.reload()
        self.assertEqual((self.refused(), self.honest.twice), (Counter(), 0), self.honest.trouble)
        self.assertEqual(len(self.handed_in), 54)
        self.assertEqual(self.ids(), [new])

    def test_proofs_are_lost_where_a_key_signs_that_is_not_known_to_all(self) -> None:
        """So the test above would notice."""
        self.keys("add")
        self.keys("promote", self.ids()[1])
        self.reload(1)
        self.assertEqual(set(self.refused()), {"invalid_challenge"})


class Runbook(Replicas):
    # There are no clients to be late.
    ttl = 2

    """The steps of docs/operations.md, each command as it stands there but for ports and paths."""

    def test_steps(self) -> None:
        page = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()
        steps = page.partition("\n## Rotate keys\n")[2].partition("\n`retire` refuses")[0]
        self.config = self.folder / "wow.yaml"
        self.config.write_text(f"pow: {{ttl: {self.ttl}, skew: {SKEW}}}\n")
        commands = re.findall(r"^ {4,}((?:wow|curl) .*)$", steps, re.MULTILINE)
        self.assertEqual(len(commands), 10)
        for command in commands:
            if command.startswith("wow keys retire"):
                expires = time.monotonic() + self.ttl + SKEW
                wait_until(partial(self.is_over, expires))
            if command.startswith("wow keys"):
                self.run_command(command)
            else:
                self.on_each_server(command)
        self.assertEqual(len(self.ids()), 1)
        self.assertNotEqual(self.ids(), [self.old])

    def on_each_server(self, command: str) -> None:
        for number, server in enumerate(self.servers):
            self.distribute(number)
            place = f"127.0.0.1:{server.admin[1]}"
            here = f"{command} {place}" if command == "wow reload" else command
            self.run_command(here.replace("127.0.0.1:7778", place))

    def run_command(self, command: str) -> None:
        new = [key_id for key_id in self.ids() if key_id != self.old]
        here = (
            command.replace("/etc/wow/wow.keys", str(self.file))
            .replace("/etc/wow/wow.yaml", str(self.config))
            .replace("NEW", "".join(new))
            .replace("OLD", self.old)
        )
        here = re.sub("^wow ", f"{WOW} ", here)
        ran = subprocess.run(
            ["bash", "-o", "pipefail", "-c", here],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(ran.returncode, 0, f"{command}: {ran.stdout}{ran.stderr}")
