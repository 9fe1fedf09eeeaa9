"""
Who may see the operators' site: whoever shows the token, or has a client
certificate; where neither is asked for, whoever is on this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address

from attrs import frozen
from twisted.web.http import FORBIDDEN, UNAUTHORIZED
from twisted.web.server import Request

from wow.admin import bearer
from wow.config import Admin, ConfigError, Settings
from wow.secret import reveal

_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::[0-9]*)?")


@frozen
class Refusal:
    """
    Why somebody may not see a page.

    @ivar status: of HTTP.
    @ivar text: says what to do.
    @ivar schemes: by which to show who one is, if there are such in HTTP.
    """

    status: int
    text: str
    schemes: tuple[str, ...] = ()


_NO_TOKEN = Refusal(
    UNAUTHORIZED,
    "This page is for whoever shows admin.token, in a header: Authorization: Bearer TOKEN; or, in "
    "a browser, as the password, with any name.\n",
    ('Bearer realm="operators of wow"', 'Basic realm="operators of wow", charset="UTF-8"'),
)
_NO_CERTIFICATE = Refusal(
    FORBIDDEN, "This page is for whoever has a certificate of one of the authorities of wow.\n"
)
_ELSEWHERE = Refusal(
    FORBIDDEN,
    "Ask for this page by the name localhost or by an address of loopback. Under other names, a "
    "page from elsewhere could have your browser read it. Or set admin.token.\n",
)


class Lock:
    """What opens the site. Of the token, only a hash is kept."""

    def __init__(self, admin: Admin, environ: Mapping[str, str]) -> None:
        """
        @param environ: where secrets may be.
        @raise ConfigError: if there is no token where there should be one.
        """
        self._admin = admin
        self._environ = environ
        self._certificates = admin.client_ca is not None
        # A browser reaches no Unix socket.
        self._by_name = not admin.listen.startswith("unix:")
        self._digest = self._read()

    def _read(self) -> bytes | None:
        if self._admin.token is None:
            return None
        try:
            token = reveal(self._admin.token, self._environ)
            bearer.check(token)
        except ValueError as bad:
            raise ConfigError([f"admin.token: {bad}"]) from None
        return _digest(token.encode())

    def prepare(self, settings: Settings) -> Callable[[], None]:
        """
        Read the token again. If it is to be another one by now, and not
        another at the same place, that needs a restart.

        @return: puts it in force.
        @raise ConfigError: if there is none. Then nothing changes.
        """
        digest = self._digest if settings.admin.token != self._admin.token else self._read()

        def put_in_force() -> None:
            self._digest = digest

        return put_in_force

    def refusal(self, request: Request) -> Refusal | None:
        """Why whoever asks may not see what is for operators, or None if he may."""
        headers = request.requestHeaders
        if self._certificates and _has_certificate(request):
            return None
        if self._digest is not None:
            token = bearer.shown(headers.getRawHeaders(b"authorization", []))
            known = token is not None and compare_digest(_digest(token), self._digest)
            return None if known else _NO_TOKEN
        if self._certificates:
            return _NO_CERTIFICATE
        if self._by_name and not names_loopback(headers.getRawHeaders(b"host", [])):
            return _ELSEWHERE
        return None


def _digest(token: bytes) -> bytes:
    # All of one length, so that comparing says nothing of the token's.
    return sha256(token).digest()


def _has_certificate(request: Request) -> bool:
    # One that OpenSSL has not believed does not come so far.
    get = getattr(request.channel.transport, "getPeerCertificate", None)
    return get is not None and get() is not None


def names_loopback(headers: Sequence[bytes]) -> bool:
    """
    Whether a request is for this machine by a name or an address that is
    nobody else's. A browser that a page from elsewhere has fooled sends the
    page's name.

    @param headers: the values of all headers named C{Host}.
    """
    if len(headers) != 1:
        return False
    found = _HOST.fullmatch(headers[0].decode("latin-1"))
    if found is None:
        return False
    name = found[1] or found[2]
    try:
        return name.lower() == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
