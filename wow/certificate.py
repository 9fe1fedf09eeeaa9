"""A TLS certificate with its key, read from files and checked before it is shown to anybody."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509, PKey
from twisted.internet.ssl import CertificateOptions

from wow.endpoint import TlsFiles
from wow.private import read_private

_LONGEST_FILE = 2**20


class BadCertificate(ValueError):
    """A certificate or its key cannot be used. The message names the file and never shows a key."""


@frozen
class Certificate:
    """
    A certificate that a server can show.

    @ivar context: what OpenSSL makes connections of. With Twisted's choice of
        versions, TLS 1.2 and later, and of ciphers, and without tickets.
    @ivar begins: when it, and all others of its chain, are valid.
    @ivar expires: when it, or another of its chain, is not any more.
    """

    context: SSL.Context
    begins: datetime
    expires: datetime

    def trouble(self, now: datetime) -> str | None:
        """Why clients will not believe it, or None."""
        if now >= self.expires:
            return f"it expired on {self.expires:%Y-%m-%d at %H:%M:%S} UTC"
        if now < self.begins:
            return f"it is not valid before {self.begins:%Y-%m-%d at %H:%M:%S} UTC"
        return None


def load(files: TlsFiles) -> Certificate:
    """
    Read a certificate, what is between it and the root, and its key; and whose
    certificates of clients are to be believed. Clients may do without one.

    @raise BadCertificate: if a file cannot be read or is no such thing, others
        than its owner can read the key, or the key is another certificate's.
    """
    chain = load_certificates(files.certificate)
    if files.chain is not None:
        chain += load_certificates(files.chain)
    first, *others = map(X509.from_cryptography, chain)
    try:
        options = CertificateOptions(
            _load_key(files.key), first, extraCertChain=others, **_verification(files.clients)
        )
        context = options.getContext()
    except SSL.Error as error:
        reasons = ", ".join(reason for _, _, reason in error.args[0]) or "OpenSSL does not say why"
        raise BadCertificate(
            f"the key in {files.key} and the first certificate in {files.certificate} "
            f"cannot be used together: {reasons}"
        ) from None
    begins = max(certificate.not_valid_before_utc for certificate in chain)
    expires = min(certificate.not_valid_after_utc for certificate in chain)
    return Certificate(context, begins, expires)


def _verification(clients: Path | None) -> dict[str, Any]:
    if clients is None:
        return {}
    trusted = [X509.from_cryptography(each) for each in load_certificates(clients)]
    # With its trustRoot, nobody could do without one.
    return {"verify": True, "requireCertificate": False, "caCerts": trusted}


def load_certificates(path: Path) -> list[x509.Certificate]:
    """
    The certificates in a file of PEM.

    @raise BadCertificate: if it cannot be read, or has none in it.
    """
    try:
        with path.open("rb") as file:
            return x509.load_pem_x509_certificates(file.read(_LONGEST_FILE))
    except OSError as failed:
        raise BadCertificate(f"{path} cannot be read: {failed.strerror}") from None
    except ValueError:
        raise BadCertificate(f"{path} holds no certificate in PEM") from None


def _load_key(path: Path) -> PKey:
    try:
        content = read_private(path)
    except ValueError as bad:
        raise BadCertificate(str(bad)) from None
    try:
        # Not all kinds that it reads are for TLS.
        key: Any = load_pem_private_key(content, None)
        return PKey.from_cryptography_key(key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Its words might hold what it read.
        raise BadCertificate(
            f"{path} holds no private key in PEM that TLS can use without a password"
        ) from None
