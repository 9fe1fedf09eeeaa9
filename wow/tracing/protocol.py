"""
A connection some of whose exchanges are traced.

One exchange is followed at a time, from a request to the solution of the
challenge that it got on the same connection. Whatever does not go on with it
ends it. A solution that comes over another connection than its challenge is
an exchange without a beginning.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from wow import wire
from wow.errors import Refused
from wow.guard import Visitor
from wow.server import Gate, GateProtocol
from wow.spread import Spread
from wow.tracing.choice import Choice
from wow.tracing.exchange import Exchange
from wow.tracing.stages import staged


class TracedProtocol(GateProtocol):
    """What a L{GateProtocol} is, to a client; an operator sees more of it."""

    # It asks GateProtocol by name, since up to Python 3.11 super() takes longer
    # than all that is done here for an exchange that is not traced.

    _exchange: Exchange | None = None

    def __init__(
        self, choice: Choice, gate: Gate, visitor: Visitor, prefix: bytes, now: float
    ) -> None:
        """
        @param choice: says which exchanges are traced.
        """
        super().__init__(gate, visitor, prefix, now)
        self._choice = choice

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._exchange is not None:
            self._let_go()
        GateProtocol.connectionLost(self, reason)

    def _let_go(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()

    def _logged(self) -> AbstractContextManager[None]:
        return nullcontext() if self._exchange is None else self._exchange.logged()

    # What the peer says.

    def _issue(self, request: wire.Request) -> None:
        if self._exchange is not None:
            self._let_go()
        exchange = self._choice.begin(self.visitor.address, request.traceparent or None)
        if exchange is None:
            GateProtocol._issue(self, request)
            return
        self._exchange = exchange
        exchange.enter("issue")
        with exchange.logged():
            GateProtocol._issue(self, request)
        exchange.ask(request.resource)
        exchange.enter("solve")

    def _redeem(self, solution: wire.Solution) -> None:
        exchange = self._exchange
        if exchange is not None or not self._challenges:
            exchange = self._exchange = self._continued(solution.challenge)
        if exchange is None:
            GateProtocol._redeem(self, solution)
            return
        exchange.enter("check")
        self._proof_of_work = staged(self._gate.proof_of_work, exchange.enter)
        try:
            with exchange.logged():
                GateProtocol._redeem(self, solution)
        finally:
            self._proof_of_work = self._gate.proof_of_work

    def _continued(self, challenge: str) -> Exchange | None:
        """The exchange that a solution belongs to, if it is traced."""
        exchange = self._exchange
        if exchange is not None and exchange.challenge == challenge:
            return exchange
        self._let_go()
        # Of what was asked for here it is known already that it is not traced.
        return None if self._challenges else self._choice.begin(self.visitor.address, None)

    # What the server says.

    def _send(self, message: wire.ServerMessage, duration: Spread) -> float:
        exchange = self._exchange
        if exchange is None or self._closing:
            return GateProtocol._send(self, message, duration)
        if isinstance(message, wire.Challenge):
            exchange.charge(message)
            return GateProtocol._send(self, message, duration)
        # It is over, whatever becomes of the connection.
        self._exchange = None
        exchange.enter("send")
        sent = GateProtocol._send(self, message, duration)
        exchange.serve()
        return sent

    def _refuse(self, refused: Refused) -> None:
        exchange = self._exchange
        if exchange is None or self._closing:
            GateProtocol._refuse(self, refused)
            return
        self._exchange = None
        with exchange.logged():
            GateProtocol._refuse(self, refused)
        exchange.refuse(refused.code)

    def _fail(self, failure: Failure) -> None:
        with self._logged():
            GateProtocol._fail(self, failure)
