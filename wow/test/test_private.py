"""Files that hold secrets are read only if nobody else can."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wow.private import read_private


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
