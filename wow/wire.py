"""
What travels: one class a message, and their JSON codec.

Version 1 of the protocol, C{docs/protocol.md}. Pure: no socket, no clock.
Messages from a client are read strictly; messages from a server are read
with unknown fields ignored, so that servers may grow.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from wow import errors

MAX_SERVER_FRAME = 65536
"""The longest frame a server may send, in bytes."""

ResourceName = Annotated[str, Meta(pattern=r"\A[a-z0-9-]{1,32}\Z")]
Nonce = Annotated[int, Meta(ge=0, lt=2**53)]

TRACEPARENT = r"\A00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z"
"""A trace context as W3C's Trace Context writes it, version 00: trace, span and flags."""

Traceparent = Annotated[str, Meta(pattern=TRACEPARENT)]


class Request(Struct, frozen=True, tag="request", forbid_unknown_fields=True):
    """
    A client asks for a resource.

    @ivar traceparent: what the exchange is a part of in a trace of the
        client's, if it says so.
    """

    resource: ResourceName = "quote"
    traceparent: Traceparent | UnsetType = UNSET


class Solution(Struct, frozen=True, tag="solution", forbid_unknown_fields=True):
    """A client hands in its work: the token unchanged, and a nonce for each round."""

    challenge: str
    nonces: list[Nonce]


class Challenge(Struct, frozen=True, tag="challenge"):
    """
    The server's price.

    @ivar challenge: the token, opaque to the client.
    @ivar round_effort: expected hashes for one round.
    @ivar target: the largest admissible first 8 bytes of a digest, in hex.
    @ivar expires_in: seconds left to hand in the solution.
    """

    challenge: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,1024}\Z")]
    rounds: Annotated[int, Meta(ge=1, le=64)]
    round_effort: Annotated[int, Meta(ge=1, lt=2**32)]
    target: Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    expires_in: float
    algorithm: str = "sha256"


class Quote(Struct, frozen=True, tag="quote"):
    """
    Words of wisdom.

    @ivar author: may be empty.
    @ivar source: which of the configured sources it came from.
    """

    text: str
    author: str
    source: str


class Error(Struct, frozen=True, tag="error", omit_defaults=True):
    """A refusal; C{code} is one of those in L{errors}, C{retry_after} is in seconds."""

    code: str
    message: str
    retry_after: float | None = None


ClientMessage = Request | Solution
ServerMessage = Challenge | Quote | Error

_encoder = msgspec.json.Encoder()
_client_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
# No message of a client's has a float, and to read large ones takes msgspec
# 10 us each. So they become None, which no field takes either.
_dict_decoder = msgspec.json.Decoder(float_hook=lambda _: None)
_server_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)

# What msgspec raises on hostile input: its own errors, invalid UTF-8 (a
# ValueError) and nesting too deep for the interpreter's stack.
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def encode(message: ClientMessage | ServerMessage) -> bytes:
    """The message as JSON, without its length."""
    return _encoder.encode(message)


def frame(message: ClientMessage | ServerMessage) -> bytes:
    """The message as it travels: a big-endian uint32 length, then JSON."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


def decode_from_client(body: bytes) -> ClientMessage:
    """
    Read what a client sent.

    @raise errors.Malformed: for anything but exactly one of the client's messages.
    """
    try:
        return _client_decoder.decode(body)
    except _UNREADABLE:
        return _decode_repeated_fields(body)


def _decode_repeated_fields(body: bytes) -> ClientMessage:
    # The typed decoder checks every occurrence of a repeated field, while the
    # protocol says that the last one counts. Reading into a dict first has
    # just that meaning; the types are then checked as strictly.
    try:
        message: ClientMessage = msgspec.convert(_dict_decoder.decode(body), ClientMessage)
    except _UNREADABLE as unreadable:
        raise errors.Malformed(_explain(unreadable)) from None
    return message


def decode_from_server(body: bytes) -> ServerMessage:
    """
    Read what a server sent.

    @raise errors.Malformed: for anything but one of the server's messages.
    """
    try:
        return _server_decoder.decode(body)
    except _UNREADABLE as unreadable:
        raise errors.Malformed(_explain(unreadable)) from None


def _explain(unreadable: Exception) -> str:
    # Which field is wrong helps whoever writes a client. Only msgspec's own
    # words are passed on, cut, since they can quote a field's name.
    if isinstance(unreadable, msgspec.ValidationError):
        return f"{errors.Malformed.sentence} {unreadable}"[:200]
    return errors.Malformed.sentence


def error_of(refused: errors.Refused) -> Error:
    """The message that tells a client of a refusal."""
    return Error(refused.code, refused.message, refused.retry_after)


def refused_of(error: Error) -> errors.Refused:
    """
    The exception for a refusal that a server told of.

    A code that this version does not know becomes L{errors.Internal}.
    """
    return errors.BY_CODE.get(error.code, errors.Internal)(error.message, error.retry_after)
