"""Certificates for tests, made on the spot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@frozen
class Issued:
    """
    A key and a certificate for it.

    @ivar private: the key, PEM.
    @ivar public: the certificate, PEM.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def private(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def public(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def issue(
    host: str = "localhost",
    begins: datetime | None = None,
    ends: datetime | None = None,
    issuer: Issued | None = None,
    purpose: x509.ObjectIdentifier | None = None,
) -> Issued:
    """
    Make a key, and a certificate for it.

    @param begins: by default, yesterday.
    @param ends: by default, tomorrow.
    @param issuer: by default, it vouches for itself.
    @param purpose: by default, it is good for all.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - DAY)
        .not_valid_after(ends or now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=False)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return Issued(key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))
