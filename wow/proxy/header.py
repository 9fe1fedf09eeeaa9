"""
The header of the PROXY protocol, versions 1 and 2, read from bytes.

After HAProxy's C{proxy-protocol.txt}, whose sections are named here. What a
header may hold beside addresses (section 2.2, TLVs) is skipped. So is its
checksum, which section 2.2.3 asks of those receivers alone that support it:
TCP has one already, and nothing here depends on the rest.
"""

from __future__ import annotations

import re
import socket
import struct
from typing import Literal, NamedTuple

from wow.connection import Peer

LONGEST_V1 = 107
"""Bytes of the longest line of version 1, its end included (section 2.1)."""

LONGEST_V2 = 2048
"""
Bytes of the longest header of version 2 that is taken. All are meant to fit
in 536 (section 2), but certificates and names in TLVs have grown.
"""

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21

_TCP4 = struct.Struct("!4s4sHH")
_TCP6 = struct.Struct("!16s16sHH")
_UNIX = struct.Struct("!108s108s")
_ADDRESSES = {
    0x11: _TCP4,
    0x12: _TCP4,
    0x21: _TCP6,
    0x22: _TCP6,
    0x31: _UNIX,
    0x32: _UNIX,
}
"""How the addresses of each family and transport look: IPv4, IPv6, Unix; stream, datagram."""
_UNSPECIFIED = frozenset({0x00, 0x01, 0x02, 0x10, 0x20, 0x30})

_BEGINNING = b"PROXY "
_PORT = rb"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: .*)?|(TCP[46]) ([^ ]+) ([^ ]+) %b %b)" % (_PORT, _PORT), re.DOTALL
)


class BadHeader(Exception):
    """
    What a connection begins with is no header, or one that cannot be used.

    @ivar reason: why, in a word.
    """

    def __init__(self, reason: Literal["malformed", "too_long"]) -> None:
        super().__init__(reason)
        self.reason = reason


class Header(NamedTuple):
    """
    A whole header.

    @ivar client: whose connection it is. None where that is the sender's own,
        a probe for instance, or where it does not say; then the address that
        the connection comes from counts.
    @ivar length: its length in bytes; what comes after them is the client's.
    """

    client: Peer | None
    length: int


def read(data: bytes) -> Header | None:
    """
    Read a header, if all of it is there.

    @param data: what the connection began with, as far as it has come.
    @return: None if more must come. That is never the case for L{LONGEST_V2}
        bytes or more.
    @raise BadHeader: as soon as nothing that could follow would make it good.
    """
    if data.startswith(_SIGNATURE[: len(data)]):
        return _read_v2(data)
    if data.startswith(_BEGINNING[: len(data)]):
        return _read_v1(data)
    raise BadHeader("malformed")


def _read_v1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, LONGEST_V1)
    if end >= 0:
        return Header(_read_line(data[:end]), end + 2)
    if len(data) >= LONGEST_V1:
        raise BadHeader("too_long")
    return None


def _read_line(line: bytes) -> Peer | None:
    found = _LINE.fullmatch(line)
    if found is None:
        raise BadHeader("malformed")
    family, source, destination, *ports = found.groups()
    if family is None:
        return None
    version = socket.AF_INET if family == b"TCP4" else socket.AF_INET6
    try:
        host = source.decode("ascii")
        for address in (host, destination.decode("ascii")):
            socket.inet_pton(version, address)
    except (OSError, ValueError):
        raise BadHeader("malformed") from None
    if max(map(int, ports)) > 65535:
        raise BadHeader("malformed")
    return Peer(host, int(ports[0]))


def _read_v2(data: bytes) -> Header | None:
    # The signature is there as far as the data goes.
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise BadHeader("malformed")
    if len(data) < _HEAD.size:
        return None
    _, command, family, more = _HEAD.unpack_from(data)
    length = _HEAD.size + more
    if command == _PROXY:
        _check_family(family, more)
    if length > LONGEST_V2:
        raise BadHeader("too_long")
    if len(data) < length:
        return None
    return Header(_read_addresses(data, family) if command == _PROXY else None, length)


def _check_family(family: int, more: int) -> None:
    addresses = _ADDRESSES.get(family)
    if addresses is None:
        if family not in _UNSPECIFIED:
            raise BadHeader("malformed")
    elif more < addresses.size:
        raise BadHeader("malformed")


def _read_addresses(data: bytes, family: int) -> Peer | None:
    # Of what is not TCP nothing can be said here that would limit or bind a
    # client; section 2.2 lets that be taken as unspecified.
    if family == 0x11:
        source, _, port, _ = _TCP4.unpack_from(data, _HEAD.size)
        return Peer(socket.inet_ntop(socket.AF_INET, source), port)
    if family == 0x21:
        source, _, port, _ = _TCP6.unpack_from(data, _HEAD.size)
        return Peer(socket.inet_ntop(socket.AF_INET6, source), port)
    return None
