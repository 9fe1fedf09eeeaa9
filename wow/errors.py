"""
The ways an exchange can be refused, one class a code of the protocol.

The server raises them, L{wow.wire} carries them, and the client raises them
again on its side, so both ends name a refusal by the same class.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Stage = Literal["connection", "frame", "issue", "token", "work", "resource", "spend", "server"]
"""
How far an exchange had come: nowhere yet; a frame was read; a challenge asked
for; then of a solution the token, the work, the resource, and spending. The
last is the server's own failure, wherever it was.
"""


class Refused(Exception):
    """
    An exchange was refused, for the reason that C{code} names.

    @ivar code: the error code of the protocol.
    @ivar closes: whether the server closes the connection after this error.
    @ivar fault: whether no client in order brings it about, so that the
        server holds it against the client.
    @ivar message: one sentence for a person.
    @ivar stage: where it was refused: where it is as a rule, unless whoever raised it says
        otherwise.
    @ivar retry_after: seconds after which trying again makes sense, or None
        where waiting does not help.
    """

    code: ClassVar[str]
    closes: ClassVar[bool]
    fault: ClassVar[bool] = False
    sentence: ClassVar[str]
    stage: Stage = "connection"

    def __init__(self, message: str | None = None, retry_after: float | None = None) -> None:
        self.message = self.sentence if message is None else message
        self.retry_after = retry_after
        super().__init__(self.message)


class FrameTooLarge(Refused):
    code = "frame_too_large"
    closes = True
    fault = True
    stage = "frame"
    sentence = "The announced frame is empty or longer than the server reads."


class Malformed(Refused):
    code = "malformed"
    closes = True
    fault = True
    stage = "frame"
    sentence = "The frame is not a message of this protocol."


class UnknownResource(Refused):
    code = "unknown_resource"
    closes = False
    fault = True
    stage = "issue"
    sentence = "There is no such resource."


class InvalidChallenge(Refused):
    code = "invalid_challenge"
    closes = True
    fault = True
    stage = "token"
    sentence = "The challenge was not made by this server for this client."


class Expired(Refused):
    code = "expired"
    closes = False
    fault = True
    stage = "token"
    sentence = "The challenge's time is over; ask for a new one."


class InsufficientWork(Refused):
    code = "insufficient_work"
    closes = True
    fault = True
    stage = "work"
    sentence = "The nonces do not solve every round of the challenge."


class Replayed(Refused):
    code = "replayed"
    closes = True
    fault = True
    stage = "spend"
    sentence = "This challenge was redeemed before."


class RateLimited(Refused):
    code = "rate_limited"
    closes = False
    fault = True
    stage = "issue"
    sentence = "Too many requests from this address; wait before the next."


class Busy(Refused):
    code = "busy"
    closes = True
    sentence = "The server takes no more connections just now."


class TimedOut(Refused):
    code = "timeout"
    closes = True
    sentence = "A deadline of the connection passed."


class ShuttingDown(Refused):
    code = "shutting_down"
    closes = True
    sentence = "The server is shutting down."


class Unavailable(Refused):
    code = "unavailable"
    closes = False
    stage = "resource"
    sentence = "The resource cannot be served just now; the solution stays good until it expires."


class Internal(Refused):
    code = "internal"
    closes = True
    stage = "server"
    sentence = "The server failed; this was not your doing."


BY_CODE: dict[str, type[Refused]] = {
    refused.code: refused
    for refused in (
        FrameTooLarge,
        Malformed,
        UnknownResource,
        InvalidChallenge,
        Expired,
        InsufficientWork,
        Replayed,
        RateLimited,
        Busy,
        TimedOut,
        ShuttingDown,
        Unavailable,
        Internal,
    )
}
