"""
One connection's life: frames, their order, and deadlines. Knows no cryptography.

Frames are answered one at a time, in order. While an answer is awaited, or
while the peer does not read what was sent, nothing more is read from it; so
what a connection can make the server keep is bounded by one read. After a few
frames it is others' turn.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from attrs import frozen
from structlog.typing import FilteringBoundLogger
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from wow import wire
from wow.deadlines import Deadlines
from wow.errors import Busy, FrameTooLarge, Internal, Refused, ShuttingDown, TimedOut
from wow.guard import Guard, Lists, Reason, TurnedAway, Visitor
from wow.metrics import Metrics
from wow.pow.service import ProofOfWork
from wow.pow.token import bind, pack, text_of
from wow.rate import Rate
from wow.seats import Seats
from wow.spread import Spread
from wow.turns import Turns

_FRAMES_A_TURN = 4
"""
Frames of one connection answered in one go. A read brings hundreds of them,
which would keep everybody else waiting for milliseconds.
"""

_TURNED_AWAY: dict[Reason, str] = {
    "connections": "Too many connections from this address are open.",
    "connection_rate": "Too many connections from this address; wait before the next.",
    "failures": "Too many failures from this address; wait before the next try.",
}


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


def _sends_at_once(transport: object) -> bool:
    # Asked of the class: a TLS transport passes on what it has not to the
    # socket beneath, where this would write in the clear.
    return hasattr(type(transport), "writeSomeData")


class Farewell(Protocol):
    """Tells somebody who is not admitted why, and hangs up."""

    transport: Any

    def __init__(self, refused: Refused) -> None:
        self._refused = refused

    def connectionMade(self) -> None:
        # Over TLS it would wait for a handshake that may never come.
        if _sends_at_once(self.transport):
            self.transport.writeSomeData(wire.frame(wire.error_of(self._refused)))
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()


@implementer(IPushProducer)
class GateProtocol(Int32StringReceiver, TimeoutMixin):
    """The server's side of the protocol, version 1."""

    # No one interface of Twisted's has all that its transports have.
    transport: Any

    _awaiting = False
    _began = False
    _choked = False
    _yielded = False
    _challenges = 0
    _asked = 0.0
    _closing = False
    _spared = False
    _unbuffered = False
    _message = "connection"

    def __init__(self, gate: Gate, visitor: Visitor, prefix: bytes, now: float) -> None:
        """
        @param visitor: whose connection it is; they have been admitted.
        @param prefix: of the client's address, as tokens are bound.
        """
        self._gate = gate
        self._proof_of_work = gate.proof_of_work
        self._limits = gate.limits
        self.visitor = visitor
        self._prefix = prefix
        self.heard = now
        self.MAX_LENGTH = gate.limits.max_frame
        self._frames_left = 2 * gate.limits.exchanges
        self.callLater = gate.deadlines.callLater  # type: ignore[method-assign]

    @property
    def state(self) -> str:
        """What it is about just now."""
        states = (
            (self._closing, "closing"),
            (self._awaiting, "answering"),
            (self._choked, "not read by its peer"),
            (self._yielded, "waiting for its turn"),
            (self._challenges, "solving"),
            (self._began, "idle"),
        )
        return next((name for holds, name in states if holds), "silent")

    # What happens to the connection.

    def connectionMade(self) -> None:
        self._ends = self.heard + self._limits.lifetime
        self._fires = inf
        # What is read at once is kept until it is answered.
        self.transport.bufferSize = 2 * self._limits.max_frame
        self._unbuffered = _sends_at_once(self.transport)
        if not self._unbuffered:
            self.transport.registerProducer(self, True)
        self._gate.opened(self)
        self._expect(self._limits.idle, self.heard)

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        self._frames_this_turn = _FRAMES_A_TURN
        # As a rule a read brings one frame, and all of it.
        length = len(data) - 4
        if (
            int.from_bytes(data[:4], "big") == length <= self.MAX_LENGTH
            and not self._unprocessed
            and not self.paused
        ):
            self.stringReceived(data[4:])
        else:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closing = True
        self.setTimeout(None)
        self._gate.closed(self, self.visitor, self._began)

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
            self._message = "connection"
            self._refuse(TimedOut())

    def _expect(self, within: float, now: float) -> None:
        """Set the deadline for the next complete frame."""
        self._deadline = min(now + within, self._ends)
        # To move it costs more than a look at the clock when it fires. So it is
        # left to fire too early, and moved only where it would be too late.
        if self._deadline < self._fires:
            self._arm(now)

    def _arm(self, now: float) -> None:
        self._fires = self._deadline
        self.setTimeout(max(0, self._deadline - now))

    def drain(self, relieved: bool) -> None:
        """
        Close once the exchange under way, if any, is finished.

        @param relieved: whether another process has taken over. Who came before
            that, and has not said a word, may have this one exchange.
        """
        if relieved and not self._began:
            self._spared = True
        elif not (self._awaiting or self._challenges):
            self.shut()

    def shut(self) -> None:
        """Close now."""
        self._message = "connection"
        self._refuse(ShuttingDown())

    def give_way(self) -> None:
        """Close, for a newcomer."""
        self._gate.metrics.displaced[self._began].count += 1
        # Its place is taken already, so what cannot close at once is reset.
        told = self._begun_and_open() and self._gate.explains()
        if told:
            self._message = "connection"
            self._refuse(Busy("Others came who were quicker.", retry_after=1))
        if not (told and self._unbuffered):
            self.hang_up()

    def _begun_and_open(self) -> bool:
        return self._began and self._unbuffered and not self._closing

    # Reading pauses for three reasons: an answer is awaited, it is others'
    # turn, or the peer does not read. The transport calls the next two for
    # the third.

    def pauseProducing(self) -> None:
        self._choked = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._choked = False
        self._resume()

    def _resume(self) -> None:
        if self.paused and not (self._awaiting or self._yielded or self._choked or self._closing):
            super().resumeProducing()

    def _yield(self) -> None:
        self._yielded = True
        super().pauseProducing()
        self._gate.turns.wait(self._next_turn)

    def _next_turn(self) -> None:
        self._yielded = False
        self._resume()

    # What the peer says.

    def lengthLimitExceeded(self, length: int) -> None:
        self._began = True
        self._refuse(FrameTooLarge())

    def stringReceived(self, frame: bytes) -> None:
        self._message = "connection"
        self._began = True
        self.heard = self._gate.clock.seconds()
        self._gate.seats.heard(self)
        try:
            self._answer(frame)
        except Refused as refused:
            self._refuse(refused)
        except Exception:
            self._fail(Failure())
        self._frames_this_turn -= 1
        if not (self._frames_this_turn or self._closing):
            self._yield()

    def _answer(self, frame: bytes) -> None:
        if not frame:
            raise FrameTooLarge
        if self.heard >= self._ends:
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
            self._check_spared()
        level = gate.guard.ask(self.visitor, self.heard)
        issued = self._proof_of_work.issue(self._prefix, request.resource, level)
        self._challenges += 1
        self._asked = self.heard
        gate.metrics.issued.count += 1
        self._send(
            wire.Challenge(
                issued.text,
                issued.price.rounds,
                issued.price.round_effort,
                issued.price.target,
                issued.expires_in,
            ),
            gate.metrics.issue_duration,
        )

    def _check_spared(self) -> None:
        if not self._spared:
            raise ShuttingDown
        self._spared = False

    def _redeem(self, solution: wire.Solution) -> None:
        self._message = "solution"
        self._gate.metrics.solutions.count += 1
        self._challenges = max(0, self._challenges - 1)
        answer = self._proof_of_work.redeem(self._prefix, solution.challenge, solution.nonces)
        if isinstance(answer, Deferred):
            self._await(answer)
        else:
            self._redeemed(answer)

    def _await(self, answer: Deferred[wire.ServerMessage]) -> None:
        self._awaiting = True
        answer.addCallbacks(self._redeemed_late, self._redeem_failed)
        if self._awaiting:
            super().pauseProducing()

    def _redeemed_late(self, message: wire.ServerMessage) -> None:
        self._awaiting = False
        self._redeemed(message)
        self._resume()

    def _redeemed(self, message: wire.ServerMessage) -> None:
        self._gate.metrics.redeemed.count += 1
        self._gate.guard.redeemed(self.visitor, self.heard)
        sent = self._send(message, self._gate.metrics.redeem_duration)
        if sent and self._asked:
            self._gate.metrics.exchange_duration.count(int((sent - self._asked) * 1000))
            self._asked = 0.0

    def _redeem_failed(self, failure: Failure) -> None:
        self._awaiting = False
        if isinstance(failure.value, Refused):
            self._refuse(failure.value)
        else:
            self._fail(failure)
        self._resume()

    # What the server says.

    def _send(self, message: wire.ServerMessage, duration: Spread) -> float:
        """Send an answer, and give the time when that was done, or 0 if it was not."""
        if self._closing:
            return 0.0
        self._write(wire.frame(message))
        now = self._gate.clock.seconds()
        duration.observe(now - self.heard)
        self._wait(now)
        return now

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
            self.transport.registerProducer(self, True)
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
        self._gate.metrics.refusals[refused.stage, refused.code].count += 1
        self._gate.log.debug(
            "refused",
            code=refused.code,
            stage=refused.stage,
            client=text_of(self.visitor.address),
            message=refused.message,
        )
        if refused.fault and self._gate.guard.failed(self.visitor, self._gate.clock.seconds()):
            self.hang_up()
            return
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
        if not self._unbuffered:
            self.transport.unregisterProducer()
        self.transport.loseConnection()
        self.setTimeout(self._limits.linger)

    def hang_up(self) -> None:
        """Reset the connection, without a word."""
        self._closing = True
        self.paused = True
        self.transport.abortConnection()


class Gate(Factory):
    """
    What the connections of a server share.

    @ivar draining: whether the server takes no new exchange.
    @ivar limits: may be replaced while the server runs, for new connections.
    """

    noisy = False
    draining = False

    def __init__(
        self,
        proof_of_work: ProofOfWork,
        guard: Guard,
        seats: Seats[GateProtocol],
        explained: Rate,
        turned_away: Callable[[bytes], None],
        limits: Limits,
        prefix_bits: tuple[int, int],
        clock: IReactorTime,
        metrics: Metrics,
        log: FilteringBoundLogger,
        make_protocol: Callable[[Gate, Visitor, bytes, float], GateProtocol] = GateProtocol,
    ) -> None:
        """
        @param explained: how fast those are told why who lose a connection, or
            do not get one, without a fault of their own in it.
        @param turned_away: is told the prefix of each client that is.
        @param prefix_bits: how many bits of an IPv4 and of an IPv6 address make a client.
        @param make_protocol: makes what serves a connection; is given what
            L{GateProtocol} is.
        """
        self.proof_of_work = proof_of_work
        self.guard = guard
        self.seats = seats
        self.turns = Turns(clock)
        self.deadlines = Deadlines(clock)
        self.limits = limits
        self.clock = clock
        self.metrics = metrics
        self.log = log
        self._explained = explained
        self._turned_away = turned_away
        self._explained_due = 0.0
        self._prefix_bits = prefix_bits
        self._make_protocol = make_protocol
        self._drained: Deferred[None] | None = None
        metrics.connections.set_function(seats.__len__)
        metrics.half_begun.set_function(lambda: seats.half_begun)

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Admit a connection, or tell it why not, or (None) have it reset."""
        try:
            return self._admit(pack(getattr(addr, "host", None)))
        except Exception:
            self.log.error("internal_error", exc_info=True)
            return Farewell(Internal())

    def _admit(self, address: bytes) -> Protocol | None:
        if self.draining:
            return Farewell(ShuttingDown())
        prefix, now = bind(address, *self._prefix_bits), self.clock.seconds()
        try:
            visitor = self.guard.admit(address, prefix, now)
        except TurnedAway as away:
            return self._turn_away(away, address, prefix)
        return self._make_protocol(self, visitor, prefix, now)

    def _turn_away(self, away: TurnedAway, address: bytes, prefix: bytes) -> Farewell | None:
        self.metrics.turned_away[away.reason].count += 1
        self.log.debug("turned_away", reason=away.reason, client=text_of(address))
        # Who is denied may have neighbours with the same prefix who are not.
        if away.reason != "denied" or prefix[1:] == address:
            self._turned_away(prefix)
        if away.reason == "denied" or not self.explains():
            return None
        return Farewell(Busy(_TURNED_AWAY[away.reason], round(away.retry_after, 3)))

    def explains(self) -> bool:
        """Whether one more may be told why it is not served; if so, it counts."""
        now = self.clock.seconds()
        if self._explained.wait(self._explained_due, now) > 0:
            return False
        self._explained_due = self._explained.take(self._explained_due, now)
        return True

    def opened(self, connection: GateProtocol) -> None:
        """A connection was made."""
        self.metrics.connections_opened.count += 1
        self.seats.take(connection)

    def closed(self, connection: GateProtocol, visitor: Visitor, begun: bool) -> None:
        """
        A connection was lost.

        @param begun: whether a frame ever came. Connections without one are
            what many attacks are made of.
        """
        self.seats.leave(connection)
        self.guard.leave(visitor)
        if not begun:
            self.guard.failed(visitor, self.clock.seconds())
        if self._drained is not None and not len(self.seats):
            drained, self._drained = self._drained, None
            drained.callback(None)

    def enforce(self, lists: Lists) -> None:
        """Replace the lists of addresses that are allowed and denied, for open connections too."""
        self.guard.lists = lists
        for connection in self.seats:
            if lists.denies(connection.visitor.address):
                connection.hang_up()

    def drain(self, within: float, relieved: bool = False) -> Deferred[None]:
        """
        Take no new exchange, and finish those under way.

        @param within: seconds after which what is left is closed.
        @param relieved: see L{GateProtocol.drain}.
        @return: a Deferred that fires when no connection is left.
        """
        self.draining = True
        if not len(self.seats):
            return succeed(None)
        self._drained = Deferred[None]()
        patience = self.clock.callLater(within, self.shut)
        drained = self._drained
        drained.addCallback(lambda _: patience.cancel() if patience.active() else None)
        for connection in self.seats:
            connection.drain(relieved)
        return drained

    def shut(self) -> None:
        """Close every connection now, with its error."""
        for connection in self.seats:
            connection.shut()
