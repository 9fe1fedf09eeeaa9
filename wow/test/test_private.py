"""Files that hold secrets are read only if nobody else can."""

from __future__ import annotations

import os
import resource
import stat
import threading
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from wow.private import forbid_core_dumps, locked, read_private, replace_private


class Private(SynchronousTestCase):
    def write(self, content: bytes, mode: int = 0o600) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def refuse(self, path: Path, *words: str) -> None:
        message = str(self.assertRaises(ValueError, read_private, path))
        for word in (str(path), *words):
            self.assertIn(word, message)
        self.assertNotIn("secret", message)

    def test_all_of_it(self) -> None:
        for mode in (0o600, 0o400):
            self.assertEqual(read_private(self.write(b"secret\n", mode)), b"secret\n")

    def test_that_others_can_read_or_change(self) -> None:
        for mode in (0o604, 0o640, 0o644, 0o660, 0o666, 0o602, 0o620):
            self.refuse(self.write(b"secret", mode), "chmod 600")

    def test_that_is_not_there(self) -> None:
        self.refuse(Path(self.mktemp()), "No such file")

    def test_that_is_none(self) -> None:
        path = Path(self.mktemp())
        path.mkdir()
        self.refuse(path)

    def test_without_end(self) -> None:
        self.assertEqual(len(read_private(self.write(b"x" * 65536))), 65536)
        self.refuse(self.write(b"x" * 65537), "too long")

    def test_that_root_lends_to_a_group(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can lend")
        lent = self.write(b"secret", 0o440)
        self.refuse(lent)
        self.assertEqual(read_private(lent, lender=True), b"secret")
        for mode in (0o604, 0o660):
            path = self.write(b"secret", mode)
            self.assertRaises(ValueError, read_private, path, lender=True)


class Replacing(SynchronousTestCase):
    """A file becomes another, or stays what it is."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "wow.keys"
        self.path.write_bytes(b"old")
        self.path.chmod(0o400)

    def names(self) -> list[str]:
        return [each.name for each in self.folder.iterdir()]

    def test_content_owner_and_mode(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.path, 65532, 65532)
        before = self.path.stat()
        replace_private(self.path, b"new")
        after = self.path.stat()
        self.assertEqual(self.path.read_bytes(), b"new")
        for what in ("st_uid", "st_gid", "st_mode"):
            self.assertEqual(getattr(after, what), getattr(before, what))
        self.assertEqual(self.names(), ["wow.keys"])

    def test_who_reads_meanwhile_has_all_of_the_old_one(self) -> None:
        with self.path.open("rb") as open_before:
            replace_private(self.path, b"new")
            self.assertEqual(open_before.read(), b"old")

    def test_nobody_else_can_read_it_before_it_is_ready(self) -> None:
        self.path.chmod(0o444)
        self.addCleanup(os.umask, os.umask(0))
        modes: list[int] = []

        def fchown(descriptor: int, *_: int) -> None:
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

        with patch("wow.private.os.fchown", fchown):
            replace_private(self.path, b"new")
        self.assertEqual(modes, [0o600])

    def test_full_disk(self) -> None:
        with patch("wow.private.os.fsync", side_effect=OSError(28, "No space left on device")):
            self.assertRaises(OSError, replace_private, self.path, b"new")
        self.assertEqual((self.path.read_bytes(), self.names()), (b"old", ["wow.keys"]))

    def test_what_a_crash_has_left_is_in_nobodys_way(self) -> None:
        (self.folder / ".wow.keys.new").symlink_to(self.folder / "elsewhere")
        replace_private(self.path, b"new")
        self.assertEqual((self.path.read_bytes(), self.names()), (b"new", ["wow.keys"]))

    def test_one_after_the_other(self) -> None:
        within, order = threading.Event(), []

        def other() -> None:
            within.set()
            with locked(self.path):
                order.append("other")

        with locked(self.path):
            thread = threading.Thread(target=other)
            thread.start()
            within.wait()
            thread.join(0.05)
            order.append("first")
        thread.join()
        self.assertEqual(order, ["first", "other"])


class Cores(SynchronousTestCase):
    def limit(self, before: tuple[int, int]) -> tuple[int, int]:
        """What the limit becomes."""
        with (
            patch("resource.getrlimit", return_value=before),
            patch("resource.setrlimit") as setrlimit,
        ):
            forbid_core_dumps()
        setrlimit.assert_called_once()
        number, limits = setrlimit.call_args.args
        self.assertEqual(number, resource.RLIMIT_CORE)
        return (int(limits[0]), int(limits[1]))

    def test_none_is_kept_nor_handed_to_a_program(self) -> None:
        for before in ((0, -1), (-1, -1), (0, 4096)):
            self.assertEqual(self.limit(before), (1, before[1]))

    def test_limit_that_cannot_be_raised(self) -> None:
        self.assertEqual(self.limit((0, 0)), (0, 0))
