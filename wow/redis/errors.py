"""How asking a Redis server can fail."""

from __future__ import annotations

from typing import ClassVar


class RedisFailed(Exception):
    """
    A server did not do what it was asked; the message says why.

    @ivar reason: the same in a word, one of L{REASONS}.
    """

    reason: ClassVar[str] = "declined"


class Declined(RedisFailed):
    """The server answered with an error, and did nothing."""


class Lost(RedisFailed):
    """The connection ended before the answer came; the server may have done it."""

    reason = "lost"


class Late(Lost):
    """No answer came in time; the server may do it yet."""

    reason = "late"


CROWDED = "crowded"
"""Why a server is not even asked: too many questions are under way."""

REASONS = ("declined", "lost", "late", CROWDED)
