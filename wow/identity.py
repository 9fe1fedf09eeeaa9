"""What a server shows of itself: the certificates of its endpoints, which change while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from OpenSSL.SSL import Connection
from prometheus_client import Gauge
from structlog.typing import FilteringBoundLogger
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from wow.certificate import BadCertificate, Certificate, load
from wow.endpoint import TlsFiles


@implementer(IOpenSSLServerConnectionCreator)
class Identity:
    """
    The certificate of an endpoint.

    @ivar files: where it comes from.
    @ivar certificate: may be replaced. New connections are shown the new one;
        those that are open go on.
    """

    def __init__(self, files: TlsFiles, certificate: Certificate) -> None:
        self.files = files
        self.certificate = certificate

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        """OpenSSL's side of a new connection."""
        return Connection(self.certificate.context, None)


class Identities:
    """The certificates of all endpoints of a server, by the endpoint's key in the configuration."""

    def __init__(
        self, now: Callable[[], datetime], expiry: Gauge, log: FilteringBoundLogger
    ) -> None:
        """
        @param now: the wall clock's time, with its zone.
        @param expiry: is told when each certificate expires.
        """
        self._now = now
        self._expiry = expiry
        self._log = log
        self._identities: dict[str, Identity] = {}

    def add(self, endpoint: str, files: TlsFiles) -> Identity:
        """
        Read the certificate of one more endpoint.

        @raise BadCertificate: if it cannot be used.
        """
        identity = self._identities[endpoint] = Identity(files, _load(endpoint, files))
        self._tell(endpoint, identity.certificate)
        return identity

    def read_again(self, files: Mapping[str, TlsFiles]) -> Callable[[], None]:
        """
        Read certificates again, all or none of them.

        @param files: where they are by now. Of an endpoint that has them
            elsewhere, or none, the certificate stays what it is: with other
            files it is another endpoint, and that needs a restart.
        @return: puts them in force.
        @raise BadCertificate: if one cannot be used. Then all stay what they are.
        """
        new = {
            endpoint: _load(endpoint, identity.files)
            for endpoint, identity in self._identities.items()
            if files.get(endpoint) == identity.files
        }

        def put_in_force() -> None:
            for endpoint, certificate in new.items():
                self._identities[endpoint].certificate = certificate
                self._tell(endpoint, certificate)

        return put_in_force

    def _tell(self, endpoint: str, certificate: Certificate) -> None:
        self._expiry.labels(endpoint).set(certificate.expires.timestamp())
        expires = certificate.expires.isoformat()
        self._log.info("certificate", endpoint=endpoint, expires=expires)
        if trouble := certificate.trouble(self._now()):
            self._log.warning(
                "certificate_not_valid",
                endpoint=endpoint,
                reason=trouble,
                meaning="clients that check it will not connect",
                remedy="renew it, and send SIGHUP",
            )


def _load(endpoint: str, files: TlsFiles) -> Certificate:
    try:
        return load(files)
    except BadCertificate as bad:
        raise BadCertificate(f"{endpoint}: {bad}") from None
