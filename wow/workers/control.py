"""
What a parent and its workers say to each other: JSON in frames, by two pipes.

First of all a worker reads its L{Brief}, once and for all. That is what a
worker cannot know of itself, with secrets among it; so it comes by a pipe that
nobody else has. Both are the same program, so it is a pickle.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

from attrs import frozen
from msgspec import MsgspecError, Struct
from msgspec.json import Decoder, Encoder
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

from wow.config import Settings
from wow.debug.query import Answer, Query
from wow.pow.keys import KeyRing
from wow.workers.aggregate import Family

LOG, COMPLAINTS, FROM_PARENT, TO_PARENT = 1, 2, 3, 4
"""
The file descriptors of a worker's ends of its pipes: what it logs, what Python
says where nobody logs it, what the parent says, and what it says to the parent.
"""
_LONGEST = 2**26
"""Bytes of a frame. The longest have lists of networks, and then metrics."""


@frozen
class Inherited:
    """
    One of the listening sockets that a worker has from its parent.

    @ivar key: of the endpoint whose it is, in the configuration.
    @ivar descriptor: its number in the worker.
    @ivar shared: whether other workers have the same one.
    """

    key: str
    descriptor: int
    shared: bool


@frozen
class Terms:
    """
    What workers serve by.

    @ivar keys: that all of them sign with.
    """

    settings: Settings
    keys: KeyRing


@frozen
class Brief:
    """
    What a worker is told when it begins.

    @ivar number: of its post, 1 and up.
    @ivar terms: with its own share of the limits.
    @ivar reactor: the module of the reactor that it is to run.
    @ivar terminal: whether its log ends on one.
    """

    number: int
    terms: Terms
    doors: tuple[Inherited, ...]
    reactor: str
    terminal: bool


class Serve(Struct, frozen=True, tag="serve"):
    """Let clients in."""


class PutInForce(Struct, frozen=True, tag="put in force"):
    """
    Take from new settings what needs no new worker.

    @ivar settings: as L{pack} gives them.
    """

    settings: bytes


class Ask(Struct, frozen=True, tag="ask"):
    """
    Say how you are.

    @ivar number: of this question.
    @ivar metrics: whether to tell these too.
    """

    number: int
    metrics: bool


class Drain(Struct, frozen=True, tag="drain"):
    """
    Finish, and end.

    @ivar relieved: whether another has taken over, so that clients who have
        just come may ask.
    """

    relieved: bool


class Hurry(Struct, frozen=True, tag="hurry"):
    """Finish now."""


class Look(Struct, frozen=True, tag="look"):
    """
    Have a look at yourself.

    @ivar number: of this look.
    """

    number: int
    query: Query


class LookAway(Struct, frozen=True, tag="look away"):
    """
    Nobody wants to know any more.

    @ivar number: of the look.
    """

    number: int


Order = Serve | PutInForce | Ask | Drain | Hurry | Look | LookAway


class Ready(Struct, frozen=True, tag="ready"):
    """A worker can let clients in."""


class Report(Struct, frozen=True, tag="report"):
    """
    How a worker is.

    @ivar answers: the number of the question, or 0 for its last words.
    @ivar health: as L{wow.admin.health.Health} reports it.
    """

    answers: int
    ready: bool
    health: dict[str, Any]
    metrics: list[Family] | None = None


class Seen(Struct, frozen=True, tag="seen"):
    """
    What a worker has seen of itself.

    @ivar answers: the number of the look.
    """

    answers: int
    answer: Answer


Word = Ready | Report | Seen

ORDERS: Decoder[Order] = Decoder(Order)
WORDS: Decoder[Word] = Decoder(Word)

_encoder = Encoder()


def frame(message: Order | Word) -> bytes:
    """A message as it travels: a big-endian uint32 length, then JSON."""
    return _framed(_encoder.encode(message))


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def frame_brief(brief: Brief) -> bytes:
    """A brief as it travels, before all messages."""
    return _framed(pack(brief))


def read_brief(descriptor: int) -> Brief:
    """
    Read it, and nothing of what comes after it.

    @raise EOFError: if the parent is gone.
    """
    length = int.from_bytes(_read(descriptor, 4), "big")
    brief = unpack(_read(descriptor, length))
    assert isinstance(brief, Brief)
    return brief


def _read(descriptor: int, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = os.read(descriptor, length - len(data))
        if not more:
            raise EOFError("the parent is gone")
        data += more
    return data


def pack(what: Brief | Settings) -> bytes:
    """What is no message, in bytes."""
    return pickle.dumps(what)


def unpack(data: bytes) -> Any:
    """
    The same again.

    @param data: from the parent and nobody else.
    """
    return pickle.loads(data)  # noqa: S301 (see above)


class Channel(Int32StringReceiver):
    """
    The reading end of a pipe. What it cannot make sense of is the end of it.
    """

    MAX_LENGTH = _LONGEST

    def __init__(
        self, decoder: Decoder[Any], heard: Callable[[Any], None], lost: Callable[[str], None]
    ) -> None:
        """
        @param decoder: C{ORDERS} or C{WORDS}.
        @param heard: is called with each message.
        @param lost: is called once with why there will be no further one.
        """
        self._decoder = decoder
        self._heard = heard
        self._lost: Callable[[str], None] | None = lost

    def stringReceived(self, string: bytes) -> None:
        if self._lost is None:
            return
        try:
            message = self._decoder.decode(string)
        except MsgspecError as bad:
            self._end(f"what was said makes no sense: {bad}")
        else:
            self._heard(message)

    def lengthLimitExceeded(self, length: int) -> None:
        self._end(f"what was said is too long: {length} bytes")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end("the pipe was closed")

    def _end(self, why: str) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            lost(why)
