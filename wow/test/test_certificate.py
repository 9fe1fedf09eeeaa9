"""A certificate is checked before it is shown to anybody, and what is wrong with it is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from twisted.trial.unittest import SynchronousTestCase

from wow.certificate import BadCertificate, load
from wow.endpoint import TlsFiles
from wow.test.certificates import issue

NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Files(SynchronousTestCase):
    def setUp(self) -> None:
        self.issued = issue(begins=NOON - HOUR, ends=NOON + HOUR)
        self.key = self.write(self.issued.private, 0o600)
        self.certificate = self.write(self.issued.public)

    def write(self, content: bytes, mode: int = 0o644) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(content)
        path.chmod(mode)
        return path


class Good(Files):
    def test_key_and_certificate(self) -> None:
        found = load(TlsFiles(self.key, self.certificate))
        self.assertEqual((found.begins, found.expires), (NOON - HOUR, NOON + HOUR))

    def test_in_one_file_in_either_order(self) -> None:
        for content in (
            self.issued.private + self.issued.public,
            self.issued.public + self.issued.private,
        ):
            both = self.write(content, 0o600)
            self.assertEqual(load(TlsFiles(both, both)).expires, NOON + HOUR)

    def test_valid_as_long_as_all_of_its_chain(self) -> None:
        root = issue("root", begins=NOON - 2 * HOUR, ends=NOON)
        first = issue(begins=NOON - HOUR, ends=NOON + HOUR, issuer=root)
        key = self.write(first.private, 0o600)
        for files in (
            TlsFiles(key, self.write(first.public), self.write(root.public)),
            TlsFiles(key, self.write(first.public + root.public)),
        ):
            found = load(files)
            self.assertEqual((found.begins, found.expires), (NOON - HOUR, NOON))

    def test_trouble_with_its_time(self) -> None:
        found = load(TlsFiles(self.key, self.certificate))
        second = timedelta(seconds=1)
        for now in (NOON - HOUR, NOON, NOON + HOUR - second):
            self.assertIsNone(found.trouble(now))
        self.assertEqual(found.trouble(NOON + HOUR), "it expired on 2031-05-17 at 13:00:00 UTC")
        self.assertEqual(
            found.trouble(NOON - HOUR - second),
            "it is not valid before 2031-05-17 at 11:00:00 UTC",
        )


class Bad(Files):
    def refuse(self, files: TlsFiles, *words: str) -> None:
        message = str(self.assertRaises(BadCertificate, load, files))
        for word in words:
            self.assertIn(word, message)
        self.assertNotIn("-----", message)

    def test_key_of_another(self) -> None:
        key = self.write(issue().private, 0o600)
        self.refuse(
            TlsFiles(key, self.certificate), str(key), str(self.certificate), "key values mismatch"
        )

    def test_first_certificate_is_the_servers(self) -> None:
        certificate = self.write(issue().public + self.issued.public)
        self.refuse(TlsFiles(self.key, certificate), "the first certificate in")

    def test_key_that_others_can_read(self) -> None:
        for mode in (0o644, 0o640, 0o604):
            self.key.chmod(mode)
            self.refuse(TlsFiles(self.key, self.certificate), "chmod 600", str(self.key))

    def test_files_that_are_not_there(self) -> None:
        gone = Path(self.mktemp())
        for files in (
            TlsFiles(gone, self.certificate),
            TlsFiles(self.key, gone),
            TlsFiles(self.key, self.certificate, gone),
            TlsFiles(self.key, self.certificate, clients=gone),
        ):
            self.refuse(files, str(gone), "No such file")

    def test_files_that_hold_something_else(self) -> None:
        for content in (b"", b"junk", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----\nAAAA\n"):
            other = self.write(content, 0o600)
            self.refuse(TlsFiles(other, self.certificate), f"{other} holds no private key")
            self.refuse(TlsFiles(self.key, other), f"{other} holds no certificate")
            self.refuse(TlsFiles(self.key, self.certificate, other), "holds no certificate")
            clients = TlsFiles(self.key, self.certificate, clients=other)
            self.refuse(clients, f"{other} holds no certificate")
        self.refuse(TlsFiles(self.key, self.key), f"{self.key} holds no certificate")

    def test_key_with_a_password(self) -> None:
        locked = self.issued.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
        key = self.write(locked, 0o600)
        self.refuse(TlsFiles(key, self.certificate), str(key), "without a password")

    def test_key_that_signs_nothing(self) -> None:
        secret = x25519.X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        key = self.write(secret, 0o600)
        self.refuse(TlsFiles(key, self.certificate), f"{key} holds no private key")
