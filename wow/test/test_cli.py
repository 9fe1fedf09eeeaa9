"""The C{wow} command, as far as it needs no server."""

from __future__ import annotations

import base64
import os
import stat
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from wow import __version__
from wow.cli import main as cli
from wow.test.test_wire import CONTEXT


class CommandTestCase(SynchronousTestCase):
    """Runs the command in this process."""

    def wow(self, *words: str) -> int:
        """The exit code; what was said is in C{out} and C{err}."""
        with patch("sys.stdout", StringIO()) as out, patch("sys.stderr", StringIO()) as err:
            try:
                code = cli.main(words)
            except SystemExit as ended:
                code = int(ended.code or 0)
        self.out, self.err = out.getvalue(), err.getvalue()
        return code


class UsageTests(CommandTestCase):
    """The command line is checked before anything is done."""

    def test_nothing(self) -> None:
        self.assertEqual(self.wow(), 2)
        self.assertIn("usage: wow", self.err)
        self.assertEqual(self.out, "")

    def test_version(self) -> None:
        self.assertEqual(self.wow("--version"), 0)
        self.assertEqual(self.out, f"wow {__version__}\n")

    def test_help(self) -> None:
        for words in (["--help"], ["quote", "--help"]):
            self.assertEqual(self.wow(*words), 0)
            self.assertIn("exit codes:", self.out)

    def test_bad_values(self) -> None:
        for option, *values in (
            ("--count", "0", "-1", "x", "1.5", ""),
            ("--processes", "0", "-1", "x"),
            ("--timeout", "0", "-1", "x", "nan", "inf", ""),
            ("--traceparent", "x", "", CONTEXT[:-1], f"{CONTEXT}-x", CONTEXT.upper()),
            ("--max-effort", "0", "-1", "x", "2^x", "3^4", "2^65", "2^-1", "2^99999999999", "^"),
        ):
            for value in values:
                self.assertEqual(self.wow("quote", f"{option}={value}"), 2, (option, value))
                self.assertIn(f"argument {option}: '{value}' is ", self.err)

    def test_unknown(self) -> None:
        for words in (["frob"], ["quote", "--frob"], ["quote", "a:1", "b:2"], ["config"]):
            self.assertEqual(self.wow(*words), 2)

    def test_good_values(self) -> None:
        parse = cli._parser().parse_args
        for text, value in (("100", 100), ("2^24", 2**24), ("2**24", 2**24), ("2^64", 2**64)):
            self.assertEqual(parse(["quote", "--max-effort", text]).max_effort, value)
        options = parse(["quote", "--count=3", "--timeout=.5", "--processes=2", "--json"])
        self.assertEqual(
            (options.count, options.timeout, options.processes, options.json), (3, 0.5, 2, True)
        )
        self.assertEqual(parse(["quote", "--traceparent", CONTEXT]).traceparent, CONTEXT)

    def test_defaults(self) -> None:
        options = cli._parser().parse_args(["quote"])
        self.assertEqual(options.endpoint, "tcp:127.0.0.1:7777")
        self.assertEqual((options.count, options.timeout), (1, 120))
        self.assertEqual((options.max_effort, options.processes), (2**26, None))
        self.assertIsNone(options.traceparent)

    def test_bad_endpoint(self) -> None:
        self.assertEqual(self.wow("quote", "tcp:7777"), 2)
        self.assertEqual(
            self.err,
            "wow: tcp:7777 says where a server listens; say where it is: tcp:HOST:7777\n",
        )

    def test_interrupted_early(self) -> None:
        with patch("wow.cli.main._keygen", side_effect=KeyboardInterrupt):
            self.assertEqual(self.wow("keygen", "x"), 130)
        self.assertEqual(self.err, "")


class KeygenTests(CommandTestCase):
    """A new key, in a new file, for its owner only."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_key(self) -> None:
        self.assertEqual(self.wow("keygen", str(self.path)), 0)
        key, created = self.path.read_text(encoding="ascii").removesuffix("\n").split(" ")
        self.assertEqual(len(base64.b64decode(key, validate=True)), 32)
        self.assertRegex(created, "^created:2[0-9-]{9}T[0-9:]{8}Z$")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_says_what_to_do_and_not_the_key(self) -> None:
        self.wow("keygen", str(self.path))
        self.assertIn(f"keys:\n  file: {self.path.absolute()}\n", self.out)
        self.assertNotIn(self.path.read_text(encoding="ascii").split()[0], self.out)

    def test_any_umask(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        self.wow("keygen", str(self.path))
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_every_key_is_new(self) -> None:
        other = Path(self.mktemp())
        self.wow("keygen", str(self.path))
        self.wow("keygen", str(other))
        self.assertNotEqual(self.path.read_bytes(), other.read_bytes())

    def test_never_overwrites(self) -> None:
        self.path.write_text("precious", encoding="ascii")
        self.assertEqual(self.wow("keygen", str(self.path)), 1)
        self.assertEqual(self.path.read_text(encoding="ascii"), "precious")
        self.assertIn("exists and is not overwritten", self.err)

    def test_does_not_follow_links(self) -> None:
        target = Path(self.mktemp())
        self.path.symlink_to(target.absolute())
        self.assertEqual(self.wow("keygen", str(self.path)), 1)
        self.assertFalse(target.exists())

    def test_no_such_folder(self) -> None:
        self.assertEqual(self.wow("keygen", str(self.path / "key")), 1)
        self.assertIn("cannot be written: No such file or directory", self.err)

    def test_full_disk(self) -> None:
        """A piece of a key is no key."""

        class Full(StringIO):
            def write(self, text: str) -> int:
                raise OSError(28, "No space left on device")

        def opened(descriptor: int, *_: Any, **__: Any) -> Full:
            os.close(descriptor)
            return Full()

        with patch("wow.cli.main.open", opened, create=True):
            self.assertEqual(self.wow("keygen", str(self.path)), 1)
        self.assertIn("No space left", self.err)
        self.assertFalse(self.path.exists())


class ConfigTests(CommandTestCase):
    """A configuration is checked and shown."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.patch(os, "environ", {})

    def test_good(self) -> None:
        self.assertEqual(self.wow("config", "check"), 0)
        self.assertEqual((self.out, self.err), ("ok\n", ""))

    def test_bad(self) -> None:
        self.path.write_text("nonsense: 1\nrubbish: 2\n", encoding="ascii")
        for action in ("check", "show"):
            self.assertEqual(self.wow("config", action, "--config", str(self.path)), 1)
            self.assertEqual(self.out, "")
            lines = self.err.splitlines()
            self.assertEqual(len(lines), 2)
            self.assertTrue(all(line.startswith("wow: ") for line in lines))
            self.assertIn("nonsense", lines[0])

    def test_show(self) -> None:
        self.assertEqual(self.wow("config", "show"), 0)
        self.assertIn("\nquotes:\n", self.out)
        self.assertTrue(self.out.endswith("\n") and not self.out.endswith("\n\n"))
