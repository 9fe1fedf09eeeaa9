"""
What the text of a listening endpoint asks for, taken apart.

C{haproxy:} and C{ssl:} are layers of wow's own over a plain listening socket.
What is left without them is Twisted's to open. Nothing is opened or read here.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.endpoints import (
    UNIXServerEndpoint,
    quoteStringArgument,
    serverFromString,
)

_PROXIED = "haproxy:"
_KINDS = ("tcp", "tcp6", "unix", "systemd")

_ARGUMENT = re.compile(r"(?:[^:\\]|\\.)*", re.DOTALL)
"""Up to the next colon that no backslash is before."""
_NAME = re.compile(r"(?:[^=\\]|\\.)*", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

_IN_ORDER = ("port", "privateKey", "certKey")
"""The arguments of C{ssl:} that may do without their names."""
_OF_SOCKET = ("interface", "backlog")
_OF_TLS = (*_IN_ORDER, "extraCertChain", *_OF_SOCKET)


@frozen
class TlsFiles:
    """
    Where the certificate of an endpoint is, as PEM.

    @ivar key: the private key's file.
    @ivar certificate: its certificate's, which may be the same.
    @ivar chain: certificates between that one and the root, where they are
        not in the certificate's file.
    @ivar clients: certificates of the authorities that clients' certificates are
        to be of, where clients may show some.
    """

    key: Path
    certificate: Path
    chain: Path | None = None
    clients: Path | None = None


@frozen
class Endpoint:
    """
    A listening endpoint.

    @ivar text: as the operator wrote it.
    @ivar base: the plain socket beneath, as Twisted's C{serverFromString} takes it.
    @ivar proxied: whether each connection begins with a PROXY header. If there
        is TLS too, it comes after that.
    @ivar tls: the certificate's files, or None for an endpoint without TLS.
    """

    text: str
    base: str
    proxied: bool = False
    tls: TlsFiles | None = None


class NotHandedOver(Exception):
    """The socket is systemd's to hand over, and was not."""


def listener(reactor: Any, base: str) -> Any:
    """
    What listens at a plain socket; see L{Endpoint.base}.

    @param reactor: or what takes its place.
    @raise NotHandedOver: if systemd should have opened it, and has not.
    """
    try:
        return serverFromString(reactor, base)
    except LookupError:
        raise NotHandedOver(
            "systemd has handed over no such socket; start the socket's unit, or name it as its "
            "FileDescriptorName= does"
        ) from None


def parse(text: str) -> Endpoint:
    """
    Take the text of an endpoint apart: C{tcp:7777}, C{ssl:7777:privateKey=key.pem},
    C{haproxy:tcp:7777} and so on, with backslashes before what is no delimiter.

    @raise ValueError: if that is not possible. The message says why.
    """
    proxied = text.startswith(_PROXIED)
    inner = text[len(_PROXIED) :] if proxied else text
    try:
        kind, *arguments = _split(inner)
        if kind == "ssl":
            base, tls = _take_tls(arguments)
        else:
            base, tls = inner, None
            _check_kind(kind)
    except ValueError as bad:
        raise _no_endpoint(text, bad) from None
    return Endpoint(text, base, proxied, tls)


def check(text: str) -> Endpoint:
    """
    Take the text of an endpoint apart, and see whether one could listen on it.
    What systemd is to hand over is seen only by L{listener}.

    @raise ValueError: if it could not, or there is no such endpoint. The
        message says why.
    """
    endpoint = parse(text)
    try:
        _check_base(endpoint.base)
    except ValueError as bad:
        raise _no_endpoint(text, bad) from None
    return endpoint


def is_local(endpoint: Endpoint) -> bool:
    """
    Whether it is for this machine alone, as far as its text says: where systemd
    listens is not known from it.
    """
    try:
        made = serverFromString(None, endpoint.base)
        return isinstance(made, UNIXServerEndpoint) or ip_address(made._interface).is_loopback
    except (LookupError, AttributeError, ValueError):
        return False


def _no_endpoint(text: str, why: ValueError) -> ValueError:
    return ValueError(f"{text!r} is no endpoint to listen on: {why}")


def _split(text: str) -> list[str]:
    """The arguments of an endpoint, still with their backslashes."""
    arguments, end = [], -1
    while end < len(text):
        found = _ARGUMENT.match(text, end + 1)
        assert found is not None
        arguments.append(found[0])
        end = found.end()
        if text[end : end + 1] == "\\":
            raise ValueError("a backslash at its end stands before nothing")
    return arguments


def _check_kind(kind: str) -> None:
    if kind == "tls":
        raise ValueError("tls: lets strangers have its files read; use ssl:")
    if kind == "haproxy":
        raise ValueError("haproxy: can stand there only once")
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is none of {', '.join(_KINDS)}, ssl, or haproxy before these")


def _take_tls(arguments: list[str]) -> tuple[str, TlsFiles]:
    found = dict(_name(arguments))
    if unknown := found.keys() - set(_OF_TLS):
        raise ValueError(f"ssl: takes {', '.join(_OF_TLS)}; not {', '.join(sorted(unknown))}")
    if "port" not in found:
        raise ValueError("it has no port")
    key = Path(found.get("privateKey", "server.pem"))
    chain = found.get("extraCertChain")
    of_socket = [f"{name}={_quoted(found[name])}" for name in _OF_SOCKET if name in found]
    base = ":".join(["tcp", _quoted(found["port"]), *of_socket])
    certificate = Path(found.get("certKey", key))
    return base, TlsFiles(key, certificate, Path(chain) if chain else None)


def _name(arguments: list[str]) -> list[tuple[str, str]]:
    named, names = [], iter(_IN_ORDER)
    for argument in arguments:
        name = _NAME.match(argument)
        assert name is not None
        if name.end() < len(argument):
            named.append((_plain(name[0]), _plain(argument[name.end() + 1 :])))
        elif (next_name := next(names, None)) is not None:
            named.append((next_name, _plain(argument)))
        else:
            raise ValueError(f"{argument!r} lacks the name of what it is")
    if len(dict(named)) < len(named):
        raise ValueError("an argument stands there twice")
    return named


def _plain(argument: str) -> str:
    return _ESCAPED.sub(r"\1", argument)


def _quoted(argument: str) -> str:
    return str(quoteStringArgument(argument))


def _check_base(base: str) -> None:
    try:
        endpoint = serverFromString(None, base)
    except LookupError:
        # What systemd hands over is here only when it starts the server.
        return
    except Exception as bad:
        raise ValueError(f"Twisted cannot make one of it ({bad})") from None
    if not 0 <= getattr(endpoint, "_port", 0) <= 65535:
        raise ValueError("there is no such port, only 0 to 65535")
