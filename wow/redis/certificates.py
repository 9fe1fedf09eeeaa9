"""Whose certificates are trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL.crypto import Error as CryptoError
from twisted.internet.ssl import Certificate, trustRootFromCertificates

_BEGIN = b"-----BEGIN CERTIFICATE-----"


def read(path: Path) -> Any:
    """
    The certificates of a PEM file, as what to trust.

    @raise ValueError: if it cannot be read, or has none in it.
    """
    try:
        parts = path.read_bytes().split(_BEGIN)[1:]
        certificates = [Certificate.loadPEM(_BEGIN + part) for part in parts]
    except OSError as failed:
        raise ValueError(f"{path} cannot be read: {failed.strerror}") from None
    except CryptoError:
        raise ValueError(f"{path} has a certificate in it that is none") from None
    if not certificates:
        raise ValueError(f"{path} has no certificate in it; PEM is what is read")
    return trustRootFromCertificates(certificates)
