"""A configuration that is changed while the server runs, by C{wow reload}."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import yaml

from tests.running import PATIENCE, Running, Server, wait_until
from wow.pow import keys

WOW = str(Path(sys.executable).parent / "wow")


class Reloading(Running):
    workers = "1"
    more: ClassVar[dict[str, str]] = {}

    def setUp(self) -> None:
        self.file = Path(self.mktemp()).absolute()
        self.key_path = Path(self.key_file())
        self.configure()
        self.server = self.start(
            None,
            "--config",
            str(self.file),
            WOW_KEYS__FILE=str(self.key_path),
            WOW_WORKERS=self.workers,
            **self.more,
        )
        wait_until(lambda: self.server.page("/health/ready")[0] == 200)

    def configure(self, **sections: Any) -> None:
        self.file.write_text(yaml.safe_dump(sections))

    def reload(self, code: int = 0, place: str | None = None, *options: str) -> str:
        """What C{wow reload} says."""
        at = place or f"127.0.0.1:{self.server.admin[1]}"
        ran = subprocess.run(
            [WOW, "reload", at, *options],
            env={**os.environ, **self.more},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(ran.returncode, code, ran.stdout + ran.stderr)
        return ran.stdout + ran.stderr

    def health(self) -> dict[str, Any]:
        return dict(json.loads(self.server.page("/health/ready")[1]))

    def hash_in_force(self, server: Server) -> list[str]:
        lines = server.page("/metrics")[1].splitlines()
        return [line for line in lines if line.startswith("wow_configuration_info{")]

    def check_refused(self) -> None:
        before = self.hash_in_force(self.server)
        self.configure(limits={"deny": ["127.0.5.0/24"]}, log={"level": "loud"})
        self.assertIn("wow: refused, and nothing has changed: log.level", self.reload(code=1))
        self.assertEqual(self.server.connect("127.0.5.1").quote()["type"], "quote")
        self.assertEqual(self.hash_in_force(self.server), before)
        self.assertEqual(self.server.metric("wow_reload_successful"), 0)
        self.assertEqual(self.server.metric('wow_reloads_total{outcome="refused"}'), 1)
        told = self.health()
        self.assertTrue(told["ready"])
        self.assertEqual(told["reload"]["outcome"], "refused")
        self.assertIn("log.level", told["reload"]["reason"])
        self.configure()
        self.assertEqual(self.reload(), "reloaded\n")
        self.assertEqual(self.server.metric("wow_reload_successful"), 1)


class OneProcess(Reloading):
    def test_refused_whole(self) -> None:
        self.check_refused()

    def test_keys(self) -> None:
        with self.server.connect() as client:
            solution = client.solution()
        new = keys.generate(datetime(2026, 1, 31, tzinfo=UTC))
        old = keys.read(self.key_path).signing
        self.key_path.write_text(f"{keys.encode(new)}\n{keys.encode(old)}\n")
        self.reload()
        ids = [key.id.hex() for key in (new, old)]
        self.assertEqual(self.server.metric(f'wow_keys{{id="{ids[0]}",role="signs"}}'), 1)
        self.assertEqual(self.server.metric(f'wow_keys{{id="{ids[1]}",role="verifies"}}'), 1)
        created = self.server.metric(f'wow_key_created_timestamp_seconds{{id="{ids[0]}"}}')
        self.assertEqual(created, datetime(2026, 1, 31, tzinfo=UTC).timestamp())
        self.assertNotIn(f'"{ids[1]}",role="signs"', self.server.page("/metrics")[1])
        with self.server.connect() as client:
            self.assertEqual(client.say(solution)["type"], "quote")
            self.assertEqual(client.quote()["type"], "quote")
        self.key_path.write_text(f"{keys.encode(new)}\n")
        with self.server.connect() as client:
            solution = client.solution()
            self.reload()
            self.assertEqual(client.say(solution)["type"], "quote")

    def test_keys_that_others_can_read(self) -> None:
        self.key_path.chmod(0o644)
        self.assertIn("keys.file", self.reload(code=1))
        with self.server.connect() as client:
            self.assertEqual(client.quote()["type"], "quote")

    def test_price(self) -> None:
        with self.server.connect() as client:
            solution = client.solution()
            # The environment is stronger than the file.
            self.configure(pow={"floor": 128, "ceiling": 4096, "load": 0.5})
            self.assertEqual(
                self.reload(code=1),
                "wow: refused, and nothing has changed: "
                "pow: effort (64) must be from floor (128) to ceiling (4096)\n",
            )
            self.configure(pow={"floor": 16, "ceiling": 64, "load": 0.5})
            self.reload()
            self.assertEqual(self.server.metric("wow_price_ceiling_hashes"), 64)
            self.assertEqual(self.server.metric("wow_load_target_ratio"), 0.5)
            self.assertEqual(client.say(solution)["type"], "quote")

    def test_limits_and_level_and_what_needs_a_restart(self) -> None:
        before = self.hash_in_force(self.server)
        self.configure(
            limits={"exchanges": 1, "backlog": 7}, log={"level": "debug"}, pow={"ttl": 50}
        )
        said = self.reload()
        self.assertEqual(said, "reloaded; a restart is needed for limits.backlog, pow.ttl\n")
        self.assertEqual(self.health()["reload"]["restart_needed"], ["limits.backlog", "pow.ttl"])
        self.assertNotEqual(self.hash_in_force(self.server), before)
        with self.server.connect() as client:
            client.quote()
            self.assertEqual(client.say({"type": "request"})["code"], "busy")
        self.server.wait_for("refused", level="debug")

    def test_server_that_is_gone(self) -> None:
        place = f"127.0.0.1:{self.server.admin[1]}"
        self.server.stop()
        self.assertIn("could not ask", self.reload(code=3, place=place))


class ForOperators(Reloading):
    more: ClassVar[dict[str, str]] = {
        "WOW_ADMIN__TOKEN": "env:OPERATORS",
        "OPERATORS": "a-token-of-operators",
    }

    def test_with_the_token(self) -> None:
        self.assertEqual(self.reload(0, None, "--token", "env:OPERATORS"), "reloaded\n")

    def test_without_it(self) -> None:
        self.assertIn("--token file:PATH", self.reload(1))

    def test_not_in_the_open(self) -> None:
        said = self.reload(2, None, "--token", "a-token-of-operators")
        self.assertIn("say where it is", said)
        self.assertEqual(said.count("a-token-of-operators"), 0)


class OneProcessAndOneChallengeAtOnce(Reloading):
    more: ClassVar[dict[str, str]] = {"WOW_LIMITS__CHALLENGE_BURST": "1"}

    def test_who_is_there_already_is_held_to_a_new_limit(self) -> None:
        self.configure(limits={"challenge_rate": 100_000})
        self.reload()
        with self.server.connect() as client:
            for _ in range(3):
                client.challenge()
            self.configure(limits={"challenge_rate": 0.001})
            self.reload()
            client.send(*[{"type": "request"}] * 2)
            client.hear()
            answer = client.hear()
            assert answer is not None
            self.assertEqual(answer["code"], "rate_limited")


class Workers(Reloading):
    workers = "2"

    def test_refused_whole(self) -> None:
        self.check_refused()

    def test_outcome_is_that_of_the_replacement(self) -> None:
        before = self.hash_in_force(self.server)
        self.configure(limits={"idle": 7}, workers=3, log={"level": "debug"})
        self.assertEqual(self.reload(), "reloaded\n")
        self.assertEqual(len(self.server.seen("replaced")), 1)
        wait_until(lambda: self.hash_in_force(self.server) != before)
        os.kill(self.health()["pid"], signal.SIGHUP)
        wait_until(lambda: self.health()["reload"]["number"] == 2)
