"""Keys are read from where the operator put them, or refused by name; they are never shown."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.pow import keys

A = base64.b64encode(bytes(range(32))).decode()
B = base64.b64encode(bytes(range(100, 140))).decode()


class KeyRings(SynchronousTestCase):
    def test_first_signs_and_all_verify(self) -> None:
        ring = keys.parse(f"{A}\n{B}\n", "test")
        self.assertEqual(ring.signing.secret, bytes(range(32)))
        for text in (A, B):
            key = keys.parse(text, "test").signing
            self.assertEqual(ring.secret(key.id), key.secret)
        self.assertIsNone(ring.secret(b"none"))

    def test_ids_are_those_of_the_protocol(self) -> None:
        self.assertEqual(keys.parse(A, "test").ids(), ["8fb63676"])

    def test_no_key(self) -> None:
        for text in ("", " \n\t\n"):
            bad = self.assertRaises(keys.BadKey, keys.parse, text, "WOW_KEYS")
            self.assertIn("WOW_KEYS", str(bad))

    def test_short_key_is_named_by_its_place(self) -> None:
        short = base64.b64encode(bytes(31)).decode()
        bad = self.assertRaises(keys.BadKey, keys.parse, f"{A} {short}", "WOW_KEYS")
        self.assertIn("key 2 of WOW_KEYS", str(bad))
        self.assertIn("31 bytes", str(bad))

    def test_not_base64(self) -> None:
        for text in ("secret!" * 8, A[:-3] + "\u00e9==", A[:20] + "*" + A[21:], A + "=="):
            if text == A + "==":
                continue
            bad = self.assertRaises(keys.BadKey, keys.parse, text, "WOW_KEYS")
            self.assertNotIn(text, str(bad))

    def test_both_alphabets_with_or_without_padding(self) -> None:
        secret = b"\xfb\xff" * 16
        for text in (base64.b64encode(secret), base64.urlsafe_b64encode(secret)):
            for form in (text.decode(), text.decode().rstrip("=")):
                self.assertEqual(keys.parse(form, "test").signing.secret, secret)

    def test_same_key_twice(self) -> None:
        bad = self.assertRaises(keys.BadKey, keys.parse, f"{A} {A}", "WOW_KEYS")
        self.assertIn("twice", str(bad))

    def test_secrets_are_not_shown(self) -> None:
        ring = keys.parse(A, "test")
        for shown in (repr(ring.signing), str(ring.signing), repr(ring), str(ring.ids())):
            self.assertNotIn(A, shown)
            self.assertNotIn(repr(ring.signing.secret), shown)

    @given(st.binary(min_size=32, max_size=100))
    def test_written_keys_are_read_back(self, secret: bytes) -> None:
        self.assertEqual(
            keys.parse(keys.encode(keys.Key(secret)), "test").signing, keys.Key(secret)
        )

    def test_notes(self) -> None:
        (one, other) = keys.parse(
            f"{A} created:2026-01-31T12:00:00Z\n{B} demoted:2026-02-01T00:00:00Z", "test"
        ).keys
        self.assertEqual(one.created, datetime(2026, 1, 31, 12, tzinfo=UTC))
        self.assertEqual(other.demoted, datetime(2026, 2, 1, tzinfo=UTC))
        self.assertEqual((one.demoted, other.created), (None, None))

    def test_bad_notes(self) -> None:
        time = "2026-01-31T12:00:00Z"
        for notes in ("created:", "created:now", "made:" + time, f"created:{time} created:{time}"):
            bad = self.assertRaises(keys.BadKey, keys.parse, f"{A} {notes} {B}", "WOW_KEYS")
            self.assertIn("key 1 of WOW_KEYS", str(bad))
        # A key that somebody gave a name is not shown.
        bad = self.assertRaises(keys.BadKey, keys.parse, f"{A} key:{B}", "WOW_KEYS")
        self.assertNotIn(B, str(bad))

    @given(st.text(max_size=100))
    def test_any_text(self, text: str) -> None:
        try:
            ring = keys.parse(text, "test")
        except keys.BadKey:
            return
        self.assertGreaterEqual(len(ring.signing.secret), keys.KEY_BYTES)

    def test_generated_keys_differ(self) -> None:
        self.assertNotEqual(keys.generate().secret, keys.generate().secret)
        self.assertEqual(len(keys.generate().secret), keys.KEY_BYTES)


class KeyFiles(SynchronousTestCase):
    def write(self, content: str | bytes, mode: int = 0o600) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    def refuse(self, path: Path, *words: str) -> None:
        bad = self.assertRaises(keys.BadKey, keys.read, path)
        for word in (str(path), *words):
            self.assertIn(word, str(bad))
        self.assertNotIn(A, str(bad))

    def test_one_key_a_line(self) -> None:
        self.assertEqual(len(keys.read(self.write(f"{A}\n{B}\n")).ids()), 2)

    def test_readable_by_others(self) -> None:
        for mode in (0o604, 0o640, 0o644, 0o660, 0o666, 0o602, 0o620):
            self.refuse(self.write(A, mode), "chmod 600")

    def test_private_modes(self) -> None:
        for mode in (0o600, 0o400):
            keys.read(self.write(A, mode))

    def test_missing(self) -> None:
        self.refuse(Path(self.mktemp()), "No such file")

    def test_directory(self) -> None:
        path = Path(self.mktemp())
        path.mkdir()
        self.refuse(path)

    def test_empty(self) -> None:
        self.refuse(self.write(""), "no key")

    def test_not_text(self) -> None:
        self.refuse(self.write(b"\xff" * 40))

    def test_endless(self) -> None:
        self.refuse(self.write("A" * 100_000), "too long")


class Finding(SynchronousTestCase):
    def credentials(self, content: str) -> str:
        directory = Path(self.mktemp())
        directory.mkdir()
        path = directory / "wow.keys"
        path.write_text(content)
        path.chmod(0o400)
        return str(directory)

    def key_file(self) -> Path:
        path = Path(self.mktemp())
        path.write_text(A)
        path.chmod(0o600)
        return path

    def found(self, file: Path | None, environ: dict[str, str]) -> str | None:
        ring = keys.find(file, environ)
        return None if ring is None else keys.encode(ring.signing)

    def test_order(self) -> None:
        environ = {"WOW_KEYS": B, "CREDENTIALS_DIRECTORY": self.credentials(A)}
        self.assertEqual(self.found(self.key_file(), environ), A)
        self.assertEqual(self.found(None, environ), B)
        del environ["WOW_KEYS"]
        self.assertEqual(self.found(None, environ), A)

    def test_none_given(self) -> None:
        self.assertIsNone(self.found(None, {}))
        self.assertIsNone(self.found(None, {"CREDENTIALS_DIRECTORY": "/nonexistent"}))

    def test_credentials_that_cannot_be_read(self) -> None:
        """A file in the place of the folder, since a test that is root may read everything."""
        environ = {"CREDENTIALS_DIRECTORY": str(self.key_file())}
        error = self.assertRaises(keys.BadKey, keys.find, None, environ)
        self.assertIn("Not a directory", str(error))

    def test_empty_variable_is_no_absent_one(self) -> None:
        self.assertRaises(keys.BadKey, keys.find, None, {"WOW_KEYS": ""})
        self.assertRaises(
            keys.BadKey, keys.find, None, {"CREDENTIALS_DIRECTORY": self.credentials("")}
        )
