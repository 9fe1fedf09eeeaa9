"""
A rotation of keys with C{wow keys} and C{wow reload}, on three servers that share a
spent store, under honest load: challenges are issued by each, and handed in to
another that may be at another stage.
"""

from __future__ import annotations

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

ENOUGH = 20
"""Exchanges after which things count as going on."""


class Rotation(Running):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        # The operator's, of which each server has a copy.
        self.file = self.folder / "wow.keys"
        self.say("keygen", str(self.file))
        (self.old,) = self.ids()
        self.handed_in: list[Message] = []
        self.servers = [self.start_server(number) for number in range(3)]
        first, *others = (server.address for server in self.servers)
        self.honest = Honest(first, "127.40", others=others)
        self.addCleanup(self.honest.stop)
        self.wait_for_more()

    def start_server(self, number: int) -> Server:
        self.distribute(number)
        return self.start(
            self.folder / f"{number}",
            WOW_WORKERS="2" if number in WITH_WORKERS else "1",
            WOW_SPENT__URL=f"lmdb:{self.folder / 'spent'}",
            WOW_KEYS__FILE=str(self.copy(number)),
            WOW_POW__TTL=str(TTL),
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
        config.write_text(f"pow: {{ttl: {TTL}, skew: {SKEW}}}\n")
        return self.keys("retire", key_id, "--config", str(config), code=code)

    def reload(self) -> None:
        """
        One server after the other has the file by now, with clients served at
        each stage, who hand in at one what another has issued before.
        """
        for number, server in enumerate(self.servers):
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

    def roles(self) -> set[str]:
        """What servers are to say of the keys in the file."""
        first, *others = self.ids()
        return {
            f'wow_keys{{id="{first}",role="signs"}} 1.0',
            *(f'wow_keys{{id="{each}",role="verifies"}} 1.0' for each in others),
        }

    def is_in_force(self, server: Server) -> bool:
        lines = server.page("/metrics")[1].splitlines()
        return {line for line in lines if line.startswith("wow_keys{")} == self.roles()

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
        wait_until(lambda: time.monotonic() > expires)
        self.retire(self.old)
        self.reload()
        self.assertEqual((self.refused(), self.honest.twice), (Counter(), 0), self.honest.trouble)
        self.assertEqual(len(self.handed_in), 54)
        self.assertEqual(self.ids(), [new])

    def test_proofs_are_lost_where_a_key_signs_that_is_not_known_to_all(self) -> None:
        """So the test above would notice."""
        self.keys("add")
        self.keys("promote", self.ids()[1])
        self.reload()
        self.assertEqual(set(self.refused()), {"invalid_challenge"})
