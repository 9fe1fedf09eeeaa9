"""
One connection's life: frames, their order, and deadlines. Knows no cryptography.

Frames are answered one at a time, in order. While an answer is awaited, or
while the peer does not read what was sent, nothing more is read from it; so
what a connection can make the server keep is bounded by one read.
"""

from __future__ import annotations

from math import inf
from typing import Any

from attrs import frozen
from prometheus_client import Histogram
from structlog.typing import FilteringBoundLogger
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from wow import wire
from wow.errors import Busy, FrameTooLarge, Internal, Refused, ShuttingDown, TimedOut
from wow.guard import Guard
from wow.metrics import Metrics
from wow.pow.service import ProofOfWork
from wow.pow.token import UNBOUND, bind


@frozen
class Limits:
    """
    What one connection may cost. Times are in seconds.

    @ivar max_frame: the longest frame read, in bytes.
    @ivar idle: from one complete frame to the next, where no challenge is out.
    @ivar solving: the same, while a challenge is out.
    @ivar lifetime: of a connection as a whole.
    @ivar exchanges: on one connection.
    @ivar linger: for a peer to take the last answer before the connection is reset.
    """

    max_frame: int
    idle: float
    solving: float
    lifetime: float
    exchanges: int
    linger: float


@implementer(IPushProducer)
class GateProtocol(Int32StringReceiver, TimeoutMixin):
    """The server's side of the protocol, version 1."""

    # No one interface of Twisted's has all that its transports have.
    transport: Any

    _admitted = False
    _awaiting = False
    _choked = False
    _challenges = 0
    _closing = False
    _unbuffered = False
    _prefix = UNBOUND
    _message = "connection"

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._limits = gate.limits
        self.MAX_LENGTH = gate.limits.max_frame
        self._frames_left = 2 * gate.limits.exchanges
        self.callLater = gate.clock.callLater  # type: ignore[method-assign, assignment]

    # What happens to the connection.

    def connectionMade(self) -> None:
        now = self._gate.clock.seconds()
        self._ends = now + self._limits.lifetime
        self._fires = inf
        # Asked of the class: a TLS transport passes on what it has not to the
        # socket beneath, where this would write in the clear.
        self._unbuffered = hasattr(type(self.transport), "writeSomeData")
        self._gate.opened(self)
        try:
            self._begin()
        except Refused as refused:
            self._refuse(refused)
        except Exception:
            self._fail(Failure())

    def _begin(self) -> None:
        self._prefix = self._gate.prefix(self.transport.getPeer())
        if self._gate.draining:
            raise ShuttingDown
        self._gate.guard.admit()
        self._admitted = True
        self.transport.registerProducer(self, True)
        # Unix sockets have no such delay to turn off.
        if no_delay := getattr(self.transport, "setTcpNoDelay", None):
            no_delay(True)
        self._expect(self._limits.idle, self._gate.clock.seconds())

    def dataReceived(self, data: bytes) -> None:
        if not self._closing:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closing = True
        self.setTimeout(None)
        if self._admitted:
            self._gate.guard.release()
        self._gate.closed(self)

    def timeoutConnection(self) -> None:
        now = self._gate.clock.seconds()
        self._fires = inf
        if self._closing:
            self.transport.abortConnection()
        elif self._awaiting:
            # The server's own slowness is not the client's.
            self._deadline = now + self._limits.idle
            self._arm(now)
        elif now < self._deadline:
            self._arm(now)
        else:
            self._refuse(TimedOut())

    def _expect(self, within: float, now: float) -> None:
        """Set the deadline for the next complete frame."""
        self._deadline = min(now + within, self._ends)
        # A timer costs more than a look at the clock when it fires. So it is
        # left to fire too early, and moved only where it would be too late.
        if self._deadline < self._fires:
            self._arm(now)

    def _arm(self, now: float) -> None:
        self._fires = self._deadline
        self.setTimeout(max(0, self._deadline - now))

    def drain(self) -> None:
        """Close once the exchange under way, if any, is finished."""
        if not (self._awaiting or self._challenges):
            self.shut()

    def shut(self) -> None:
        """Close now."""
        self._refuse(ShuttingDown())

    # Reading pauses for two reasons: an answer is awaited, or the peer does
    # not read. The transport calls the next two for the second.

    def pauseProducing(self) -> None:
        self._choked = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._choked = False
        self._resume()

    def _resume(self) -> None:
        if self.paused and not (self._awaiting or self._choked or self._closing):
            super().resumeProducing()

    # What the peer says.

    def lengthLimitExceeded(self, length: int) -> None:
        self._refuse(FrameTooLarge())

    def stringReceived(self, frame: bytes) -> None:
        self._message = "connection"
        self._began = self._gate.clock.seconds()
        try:
            self._answer(frame)
        except Refused as refused:
            self._refuse(refused)
        except Exception:
            self._fail(Failure())

    def _answer(self, frame: bytes) -> None:
        if not frame:
            raise FrameTooLarge
        if self._began >= self._ends:
            raise TimedOut
        if not self._frames_left:
            raise Busy("This connection has carried all it may; open another.", retry_after=0)
        self._frames_left -= 1
        message = wire.decode_from_client(frame)
        if isinstance(message, wire.Solution):
            self._redeem(message)
        else:
            self._issue(message)

    def _issue(self, request: wire.Request) -> None:
        gate = self._gate
        self._message = "request"
        gate.metrics.requests.count += 1
        if gate.draining:
            raise ShuttingDown
        gate.guard.charge(self._prefix)
        issued = gate.proof_of_work.issue(self._prefix, request.resource)
        self._challenges += 1
        gate.metrics.issued.count += 1
        self._send(
            wire.Challenge(
                issued.text,
                issued.price.rounds,
                issued.price.round_effort,
                f"{issued.target:016x}",
                issued.expires_in,
            ),
            gate.metrics.issue_duration,
        )

    def _redeem(self, solution: wire.Solution) -> None:
        self._message = "solution"
        self._gate.metrics.solutions.count += 1
        self._challenges = max(0, self._challenges - 1)
        self._awaiting = True
        try:
            answer = self._gate.proof_of_work.redeem(
                self._prefix, solution.challenge, solution.nonces
            )
        except BaseException:
            self._awaiting = False
            raise
        answer.addCallbacks(self._redeemed, self._redeem_failed)
        if self._awaiting:
            super().pauseProducing()

    def _redeemed(self, message: wire.ServerMessage) -> None:
        self._awaiting = False
        self._gate.metrics.redeemed.count += 1
        self._send(message, self._gate.metrics.redeem_duration)
        self._resume()

    def _redeem_failed(self, failure: Failure) -> None:
        self._awaiting = False
        if isinstance(failure.value, Refused):
            self._refuse(failure.value)
        else:
            self._fail(failure)
        self._resume()

    # What the server says.

    def _send(self, message: wire.ServerMessage, duration: Histogram) -> None:
        if self._closing:
            return
        self._write(wire.frame(message))
        now = self._gate.clock.seconds()
        duration.observe(now - self._began)
        self._wait(now)

    def _write(self, data: bytes) -> None:
        # A plain socket takes a message at once: one system call. By way of
        # the reactor it is three, and a turn of its loop. The first time that
        # the socket does not take all, the reactor takes over for good, so
        # that nothing overtakes what it has buffered.
        if self._unbuffered:
            sent = self.transport.writeSomeData(data)
            if sent == len(data):
                return
            self._unbuffered = False
            data = data[sent:] if isinstance(sent, int) else data
        self.transport.write(data)

    def _wait(self, now: float) -> None:
        if self._gate.draining and not self._challenges:
            self._refuse(ShuttingDown())
        else:
            self._expect(self._limits.solving if self._challenges else self._limits.idle, now)

    def _refuse(self, refused: Refused) -> None:
        if self._closing:
            return
        self._gate.metrics.refused[self._message][refused.code].count += 1
        self._gate.log.debug(
            "refused", code=refused.code, client=self._prefix[1:].hex(), message=refused.message
        )
        self._write(wire.frame(wire.error_of(refused)))
        if refused.closes:
            self._close()
        else:
            self._wait(self._gate.clock.seconds())

    def _fail(self, failure: Failure) -> None:
        self._gate.log.error("internal_error", exc_info=failure)
        self._refuse(Internal())

    def _close(self) -> None:
        # A transport with a producer keeps waiting for it, and one whose peer
        # does not read never closes by itself.
        self._closing = True
        self.paused = True
        if self._admitted:
            self.transport.unregisterProducer()
        self.transport.loseConnection()
        self.setTimeout(self._limits.linger)
        if not (self._admitted or self._unbuffered):
            # Over TLS the refusal would wait for a handshake that may never
            # come, and the connection with it.
            self.transport.abortConnection()


class Gate(Factory):
    """
    What the connections of a server share.

    @ivar draining: whether the server takes no new exchange.
    """

    noisy = False
    draining = False

    def __init__(
        self,
        proof_of_work: ProofOfWork,
        guard: Guard,
        limits: Limits,
        prefix_bits: tuple[int, int],
        clock: IReactorTime,
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param prefix_bits: how many bits of an IPv4 and of an IPv6 address make a client.
        """
        self.proof_of_work = proof_of_work
        self.guard = guard
        self.limits = limits
        self.clock = clock
        self.metrics = metrics
        self.log = log
        self._connections: set[GateProtocol] = set()
        self._prefix_bits = prefix_bits
        self._drained: Deferred[None] | None = None
        metrics.connections.set_function(self._connections.__len__)

    def buildProtocol(self, addr: IAddress | None) -> GateProtocol:
        return GateProtocol(self)

    def prefix(self, peer: IAddress) -> bytes:
        """The client that a peer belongs to."""
        return bind(getattr(peer, "host", None), *self._prefix_bits)

    def opened(self, connection: GateProtocol) -> None:
        """A connection was made."""
        self._connections.add(connection)
        self.metrics.connections_opened.count += 1

    def closed(self, connection: GateProtocol) -> None:
        """A connection was lost."""
        self._connections.discard(connection)
        if self._drained is not None and not self._connections:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def drain(self, within: float) -> Deferred[None]:
        """
        Take no new exchange, and finish those under way.

        @param within: seconds after which what is left is closed.
        @return: a Deferred that fires when no connection is left.
        """
        self.draining = True
        if not self._connections:
            return succeed(None)
        self._drained = Deferred[None]()
        patience = self.clock.callLater(within, self.shut)
        drained = self._drained
        drained.addCallback(lambda _: patience.cancel() if patience.active() else None)
        for connection in list(self._connections):
            connection.drain()
        return drained

    def shut(self) -> None:
        """Close every connection now, with its error."""
        for connection in list(self._connections):
            connection.shut()
