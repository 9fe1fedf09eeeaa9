"""C{wow keys} changes the key file as a rotation goes, shows no secret, and says what is next."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from wow.pow import keys
from wow.pow.keys import KeyRing
from wow.test.test_cli import CommandTestCase


class KeysTests(CommandTestCase):
    def setUp(self) -> None:
        self.patch(os, "environ", {})
        self.path = Path(self.mktemp()).absolute()
        self.secrets: set[str] = set()
        self.write([keys.generate(datetime(2026, 1, 31, tzinfo=UTC))])

    def write(self, ring: list[keys.Key]) -> None:
        self.path.touch(0o600)
        self.path.write_text("".join(f"{keys.encode(key)}\n" for key in ring))

    def keys(self, *words: str, code: int = 0) -> str:
        """What is said, on either stream. Never a secret."""
        given = self.wow("keys", *words, "--file", str(self.path))
        said = self.out + self.err
        self.assertEqual(given, code, said)
        with contextlib.suppress(keys.BadKey):
            self.secrets |= {keys.encode(key).split()[0] for key in self.ring().keys}
        for secret in self.secrets:
            self.assertNotIn(secret, said)
        return said

    def ring(self) -> KeyRing:
        return keys.read(self.path)

    def test_whole_rotation(self) -> None:
        (old,) = self.ring().ids()
        self.assertIn("signs nothing yet", self.keys("add"))
        self.assertEqual(self.ring().ids()[0], old)
        new = self.ring().ids()[1]
        self.assertIn(f"wow keys retire {old}", self.keys("promote", new))
        self.assertEqual(self.ring().ids(), [new, old])
        self.assertIn("64 seconds", self.keys("retire", old, code=1).replace("65 sec", "64 sec"))
        with patch("wow.cli.keys._now", lambda: datetime.fromtimestamp(time.time() + 66, UTC)):
            self.keys("retire", old)
        self.assertEqual(self.ring().ids(), [new])
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_list(self) -> None:
        self.keys("add")
        self.keys("promote", self.ring().ids()[1])
        self.write([*self.ring().keys, keys.Key(bytes(40))])
        head, *lines = self.keys("list").splitlines()
        self.assertEqual(head.split(), ["id", "role", "made", "demoted"])
        ids = self.ring().ids()
        self.assertEqual([line.split()[:2] for line in lines], [
            [ids[0], "signs"], [ids[1], "verifies"], [ids[2], "verifies"],
        ])  # fmt: skip
        self.assertRegex(lines[0], r"\d seconds ago$")
        self.assertRegex(lines[1], r"days ago +\d seconds ago$")
        self.assertTrue(lines[2].endswith("unknown"))

    def test_signing_key_is_not_retired(self) -> None:
        (old,) = self.ring().ids()
        for words in (["retire", old], ["retire", old, "--force"]):
            self.assertIn("promote another", self.keys(*words, code=1))
        self.assertEqual(self.ring().ids(), [old])

    def test_unknown_id_is_told_what_there_is(self) -> None:
        for action in ("promote", "retire"):
            said = self.keys(action, "0badc0de", code=1)
            self.assertIn(f"no key 0badc0de; there are {self.ring().ids()[0]}", said)

    def test_force(self) -> None:
        self.keys("add")
        self.keys("retire", self.ring().ids()[1], "--force")
        self.assertEqual(len(self.ring().ids()), 1)

    def test_time_to_live_of_the_configuration(self) -> None:
        self.keys("add")
        config = Path(self.mktemp())
        config.write_text("pow: {ttl: 600, skew: 0}\n")
        past = datetime.fromtimestamp(time.time() + 590, UTC)
        words = ("retire", self.ring().ids()[1])
        with patch("wow.cli.keys._now", lambda: past):
            self.assertIn("10 sec", self.keys(*words, "--config", str(config), code=1))
            self.keys(*words)

    def test_file_of_the_configuration(self) -> None:
        config = Path(self.mktemp())
        config.write_text(f"keys: {{file: {self.path}}}\n")
        self.assertEqual(self.wow("keys", "add", "--config", str(config)), 0)
        self.assertEqual(len(self.ring().ids()), 2)

    def test_no_file(self) -> None:
        self.assertEqual(self.wow("keys", "list"), 1)
        self.assertIn("--file", self.err)

    def test_file_that_is_not_there(self) -> None:
        self.path.unlink()
        self.assertIn("No such file", self.keys("add", code=1))

    def test_readable_by_others(self) -> None:
        self.path.chmod(0o644)
        self.assertIn("chmod 600", self.keys("add", code=1))

    def test_link_stays_one(self) -> None:
        real = self.path.with_name("real.keys")
        self.path.rename(real)
        self.path.symlink_to(real)
        self.keys("add")
        self.assertTrue(self.path.is_symlink())
        self.assertEqual(len(keys.read(real).ids()), 2)

    def test_mounted(self) -> None:
        for number in (16, 30):
            with patch("pathlib.Path.rename", side_effect=OSError(number, os.strerror(number))):
                self.assertIn("change a copy, with --file", self.keys("add", code=1))
        self.assertEqual(len(self.ring().ids()), 1)

    def test_more_than_a_server_reads(self) -> None:
        self.write([keys.generate() for _ in range(1455)])
        self.assertIn("too many keys", self.keys("add", code=1))
        self.assertEqual(len(self.ring().ids()), 1455)
