"""
The signed challenge: made without keeping anything, opened without trusting anything.

The layout and the tag are those of the protocol, section 4. Signed fields
have fixed places and the resource name its length before it, so that no two
challenges share a payload.
"""

from __future__ import annotations

import hmac
import socket
import struct
from binascii import a2b_base64, b2a_base64
from typing import NamedTuple

from wow.errors import InvalidChallenge
from wow.pow.keys import KeyRing

VERSION = 1
SHA256 = 1
UNBOUND = b"\x00"
"""The binding of a token that any client may redeem."""

_HEAD = struct.Struct(">BBBBI4sQ16s")
_TAG_BYTES = 32
_CONTEXT = b"wow/challenge/v1\x00"
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_MOST_ROUNDS = 64
_RESOURCE_BYTES = range(1, 33)
# The text of the shortest token and of the longest, without padding.
_TEXT_LENGTHS = range(92, 135)


class Token(NamedTuple):
    """
    What a challenge says, once its tag was found good.

    @ivar round_effort: expected hashes for one round.
    @ivar expiry_ms: milliseconds since the Unix epoch.
    @ivar random_id: 16 random bytes; with the expiry, what is spent.
    """

    rounds: int
    round_effort: int
    expiry_ms: int
    random_id: bytes
    resource: str


def seal(token: Token, keys: KeyRing, binding: bytes) -> str:
    """
    Sign a token with the ring's signing key.

    @param binding: whom the token is for, from L{bind} or L{UNBOUND}.
    @return: the text that travels: base64url without padding.
    """
    resource = token.resource.encode("ascii")
    payload = (
        _HEAD.pack(
            VERSION,
            SHA256,
            token.rounds,
            len(resource),
            token.round_effort,
            keys.signing.id,
            token.expiry_ms,
            token.random_id,
        )
        + resource
    )
    return _to_text(payload + _tag(keys.signing.secret, payload, binding))


def open_sealed(text: str, keys: KeyRing, binding: bytes) -> Token:
    """
    Check a token's form, version, algorithm, key and tag, cheapest first.

    Its time is not looked at.

    @raise InvalidChallenge: if one check fails. The message does not say
        which, but the clients' own mistakes (form) are told from the rest.
    """
    sealed = _from_text(text)
    version, algorithm, rounds, length, round_effort, key_id, expiry_ms, random_id = (
        _HEAD.unpack_from(sealed)
    )
    if version != VERSION or algorithm != SHA256 or len(sealed) != _HEAD.size + length + _TAG_BYTES:
        raise InvalidChallenge
    secret = keys.secret(key_id)
    if secret is None:
        raise InvalidChallenge
    payload = sealed[:-_TAG_BYTES]
    if not hmac.compare_digest(_tag(secret, payload, binding), sealed[-_TAG_BYTES:]):
        raise InvalidChallenge
    # Only now are the fields the server's own words. One that asks for no
    # work is refused even so: whoever signed it, it proves nothing.
    if not (1 <= rounds <= _MOST_ROUNDS and round_effort and length in _RESOURCE_BYTES):
        raise InvalidChallenge
    resource = payload[_HEAD.size :].decode("ascii")
    return Token(rounds, round_effort, expiry_ms, random_id, resource)


def bind(address: bytes, prefix_v4: int = 32, prefix_v6: int = 64) -> bytes:
    """
    The binding of a client's address: its length and its network.

    @param address: from L{pack}; what has none is bound to nothing.
    @param prefix_v4: how many bits of an IPv4 address count.
    @param prefix_v6: how many bits of an IPv6 address count.
    """
    size = len(address)
    host_bits = 8 * size - (prefix_v4 if size == 4 else prefix_v6)
    if host_bits <= 0:
        return bytes((size,)) + address
    network = int.from_bytes(address, "big") >> host_bits << host_bits
    return bytes((size,)) + network.to_bytes(size, "big")


def pack(address: str | None) -> bytes:
    """
    An address, packed; an IPv4-mapped IPv6 address is the IPv4 one, and a zone is left out.

    @param address: as the transport gives it; None for one without addresses.
    @return: 4 or 16 bytes, or none.
    @raise ValueError: if it is no address.
    """
    if address is None:
        return b""
    try:
        if ":" not in address:
            return socket.inet_pton(socket.AF_INET, address)
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        raise ValueError(f"{address!r} is no address") from None
    mapped = packed[:12] == bytes(10) + b"\xff\xff"
    return packed[12:] if mapped else packed


def text_of(address: bytes) -> str:
    """A packed address as people write it, or a dash where there is none."""
    if not address:
        return "-"
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def _tag(secret: bytes, payload: bytes, binding: bytes) -> bytes:
    return hmac.digest(secret, _CONTEXT + payload + binding, "sha256")


def _to_text(sealed: bytes) -> str:
    text = b2a_base64(sealed, newline=False).translate(_TO_URL)
    return text.rstrip(b"=").decode("ascii")


def _from_text(text: str) -> bytes:
    # base64 has several texts for the same bytes, and the decoder skips what
    # it does not know: only the text that encoding gives back is canonical.
    if len(text) not in _TEXT_LENGTHS:
        raise InvalidChallenge
    try:
        sealed = a2b_base64(text.encode("ascii").translate(_FROM_URL) + b"==")
    except ValueError:
        raise InvalidChallenge from None
    if _to_text(sealed) != text:
        raise InvalidChallenge
    return sealed
