"""
The client's end of a connection: what the server may say, and when.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionClosed,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import IReactorTime, ITransport
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

from wow import errors, wire

_T = TypeVar("_T")
_M = TypeVar("_M", wire.Challenge, wire.Quote)

_FAREWELL = 1.0
"""Seconds that a server has to take part in closing the connection."""


class ProtocolError(Exception):
    """What is at the other end does not speak this protocol. The message says how that shows."""


class Link(Int32StringReceiver):
    """
    A client's side of a connection. Anything that nobody waits for is the end of it.

    @ivar _over: why the connection is of no more use, once it is not.
    @ivar _wanted: the message waited for.
    @ivar _waiting: what ends with the connection.
    """

    MAX_LENGTH = wire.MAX_SERVER_FRAME
    transport: ITransport

    def __init__(self) -> None:
        self._over: Exception | None = None
        self._wanted: type[wire.Challenge | wire.Quote] | None = None
        self._waiting: Deferred[Any] | None = None
        self._closed: Deferred[None] = Deferred()

    def exchange(self, message: wire.ClientMessage, wanted: type[_M]) -> Deferred[_M]:
        """
        Send a message and wait for the answer, as L{while_connected} does.

        @return: a Deferred that fires with the answer, or fails with the
            L{errors.Refused} that came in its place.
        """
        answer = self.while_connected(Deferred[_M]())
        if self._over is None:
            self._wanted = wanted
            self.transport.write(wire.frame(message))
        return answer

    def while_connected(self, work: Deferred[_T]) -> Deferred[_T]:
        """
        Wait for something that is of no use without the connection.

        @return: the same Deferred. Once the connection is over it is cancelled
            and fails with the reason. Cancelling it ends the connection.
        """
        self._waiting = work
        if self._over is not None:
            work.cancel()
        return work.addErrback(self._explain)

    def end(self, reason: Exception) -> None:
        """Hang up, unless it is over already. Who waits is told the reason."""
        if self._over is None:
            self._over = reason
            self._abort()
            self._give_up()

    def close(self, clock: IReactorTime) -> Deferred[None]:
        """
        Hang up politely.

        @return: a Deferred that fires when the connection is closed. A server
            that does not take part is left behind.
        """
        if self._over is None:
            self._over = ConnectionDone()
            late = clock.callLater(_FAREWELL, self._abort)
            self._closed.addCallback(lambda _: late.cancel() if late.active() else None)
            self.transport.loseConnection()
            self._give_up()
        return defer.gatherResults([self._closed]).addCallback(lambda _: None)

    def dataReceived(self, data: bytes) -> None:
        """Bytes came. Once it is over they are dropped, not kept."""
        if self._over is None:
            super().dataReceived(data)

    def stringReceived(self, string: bytes) -> None:
        """A frame came."""
        if self._over is not None:
            return
        try:
            message = wire.decode_from_server(string)
        except errors.Malformed as malformed:
            self.end(ProtocolError(f"a frame of its makes no sense. {malformed.message}"))
            return
        if isinstance(message, wire.Error):
            self._refused(wire.refused_of(message))
        elif self._wanted is not None and isinstance(message, self._wanted):
            self._answered().callback(message)
        else:
            self.end(ProtocolError(f"it sent a {type(message).__name__.lower()} unasked"))

    def lengthLimitExceeded(self, length: int) -> None:
        """A frame was announced that no server may send."""
        self.end(ProtocolError(f"it announced a frame of {length} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is closed, by whomever."""
        self.connected = 0
        # TLS has its own exceptions, a refused certificate's among them.
        why = reason.value
        self.end(why if isinstance(why, ConnectionClosed) else ConnectionLost(str(why)))
        self._closed.callback(None)

    def _refused(self, refused: errors.Refused) -> None:
        # The server speaks unasked only before it closes, whatever the code.
        if refused.closes or self._wanted is None:
            self.end(refused)
        else:
            self._answered().errback(refused)

    def _answered(self) -> Deferred[Any]:
        assert self._waiting is not None
        answer, self._waiting, self._wanted = self._waiting, None, None
        return answer

    def _explain(self, failure: Failure) -> Failure:
        if self._over is not None:
            return Failure(self._over)
        if failure.check(CancelledError):
            self.end(ConnectionAborted())
        return failure

    def _give_up(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def _abort(self) -> None:
        if self.connected:
            getattr(self.transport, "abortConnection", self.transport.loseConnection)()
