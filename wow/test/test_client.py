"""The client, over memory, with a server that the test plays."""

from __future__ import annotations

import json
import struct
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed  # noqa: A004
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from wow import errors, wire
from wow.client import Limits, ProtocolError, Session, TooExpensive, ask, connect
from wow.pow.search import Progress, Puzzle, SolverFailed
from wow.pow.solver import ISolver, SynchronousSolver, silently
from wow.test.fake_server import (
    QUOTE,
    TOKEN,
    FakeServer,
    MemoryEndpoint,
    Say,
    answering,
    challenge,
    greeting,
    honestly,
    silent,
)
from wow.test.test_wire import CONTEXT


@implementer(ISolver)
class SlowSolver:
    """
    Solves when the test says so.

    @ivar out: the puzzles not solved yet.
    @ivar cancelled: how many were given up.
    """

    def __init__(self) -> None:
        self.out: list[Deferred[list[int]]] = []
        self.cancelled = 0

    def solve(self, puzzle: Puzzle, progress: Progress = silently) -> Deferred[list[int]]:
        self.out.append(Deferred(self._cancel))
        return self.out[-1]

    def close(self) -> Deferred[None]:
        return succeed(None)

    def _cancel(self, _: object) -> None:
        self.cancelled += 1


class AbortableTransport(StringTransport):
    """Remembers how it was closed."""

    aborting = False

    def abortConnection(self) -> None:
        self.aborting = True
        self.loseConnection()


@implementer(IStreamClientEndpoint)
class BareEndpoint:
    """
    Connects at once to nobody.

    @ivar protocol: the client's.
    @ivar transport: what the test makes of the connection.
    """

    def __init__(self) -> None:
        self.protocol: Any
        self.transport = AbortableTransport()

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        self.protocol.makeConnection(self.transport)
        return succeed(self.protocol)


def framed(body: bytes) -> bytes:
    """Any bytes as a frame."""
    return struct.pack(">I", len(body)) + body


class ClientTestCase(SynchronousTestCase):
    """A client and a server, joined."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.slow = SlowSolver()

    def session(self, say: Say, solver: ISolver | None = None, **limits: Any) -> Session:
        """A session with a server that says this."""
        self.server = FakeServer(say)
        endpoint = MemoryEndpoint(self.server)
        connecting = connect(endpoint, solver or SynchronousSolver(), self.clock, Limits(**limits))
        session = self.successResultOf(connecting)
        self.pump = endpoint.pump
        return session

    def bare(self, solver: ISolver | None = None) -> tuple[BareEndpoint, Session]:
        """A session with nobody."""
        endpoint = BareEndpoint()
        connecting = connect(endpoint, solver or SynchronousSolver(), self.clock)
        return endpoint, self.successResultOf(connecting)

    def ask(self, session: Session, resource: str = "quote") -> Deferred[wire.Quote]:
        asked = session.ask(resource)
        self.pump.flush()
        return asked

    def assert_fails(self, say: Say, *kinds: type[Exception], **limits: Any) -> Any:
        """Asking a server that says this fails like that."""
        session = self.session(say, **limits)
        return self.failureResultOf(self.ask(session), *kinds).value

    def assert_over(self, session: Session, *kinds: type[Exception]) -> None:
        """The connection is closed, and asking once more fails like that."""
        self.pump.flush()
        self.assertTrue(self.server.lost)
        heard = len(self.server.heard)
        self.failureResultOf(self.ask(session), *kinds)
        self.assertEqual(len(self.server.heard), heard)


class AskTests(ClientTestCase):
    """All goes well."""

    def test_quote(self) -> None:
        session = self.session(partial(honestly, rounds=3, round_effort=50))
        self.assertEqual(self.successResultOf(self.ask(session)), QUOTE)

    def test_what_is_sent(self) -> None:
        session = self.session(honestly)
        self.ask(session, "a-b-1")
        asked, solved = self.server.heard
        self.assertEqual(asked, wire.Request("a-b-1"))
        assert isinstance(solved, wire.Solution)
        self.assertEqual(solved.challenge, TOKEN)

    def test_trace_context(self) -> None:
        session = self.session(honestly)
        session.ask(traceparent=CONTEXT)
        self.pump.flush()
        self.assertEqual(self.server.heard[0], wire.Request("quote", CONTEXT))

    def test_trace_context_of_one_thing(self) -> None:
        endpoint = MemoryEndpoint(FakeServer(honestly))
        ask(endpoint, SynchronousSolver(), self.clock, traceparent=CONTEXT)
        endpoint.pump.flush()
        self.assertEqual(endpoint.server.heard[0], wire.Request("quote", CONTEXT))

    def test_several_on_one_connection(self) -> None:
        session = self.session(honestly)
        for _ in range(3):
            self.assertEqual(self.successResultOf(self.ask(session)), QUOTE)

    def test_one_at_a_time(self) -> None:
        session = self.session(honestly, self.slow)
        first = self.ask(session)
        self.failureResultOf(self.ask(session), RuntimeError)
        self.slow.out[0].callback([0])
        self.pump.flush()
        self.failureResultOf(first, errors.InsufficientWork)

    def test_progress(self) -> None:
        seen: list[int] = []
        session = self.session(honestly)
        session.ask(progress=lambda index, *_: seen.append(index))
        self.pump.flush()
        self.assertEqual(seen, [0, 1])

    def test_close(self) -> None:
        session = self.session(honestly)
        closed = session.close()
        self.pump.flush()
        self.assertIsNone(self.successResultOf(closed))
        self.assertIsNone(self.successResultOf(session.close()))
        self.assert_over(session, ConnectionDone)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ask_on_a_connection_of_its_own(self) -> None:
        server = FakeServer(honestly)
        endpoint = MemoryEndpoint(server)
        asked = ask(endpoint, SynchronousSolver(), self.clock)
        endpoint.pump.flush()
        self.assertEqual(self.successResultOf(asked), QUOTE)
        self.assertTrue(server.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_doubles(self) -> None:
        self.assertTrue(verifyObject(ISolver, self.slow))
        self.assertTrue(verifyObject(IStreamClientEndpoint, MemoryEndpoint(FakeServer(honestly))))


class RefusalTests(ClientTestCase):
    """What the server refuses is told by the class of its code."""

    def test_every_code(self) -> None:
        for code, kind in errors.BY_CODE.items():
            error = wire.Error(code, "because", 2.5)
            refused = self.assert_fails(answering(error), kind)
            self.assertEqual((refused.message, refused.retry_after), ("because", 2.5))

    def test_refusal_that_keeps_the_connection(self) -> None:
        def say(server: FakeServer, message: wire.ClientMessage | None) -> None:
            if message == wire.Request("nothing"):
                server.send(wire.Error("unknown_resource", "no"))
            else:
                honestly(server, message)

        session = self.session(say)
        self.failureResultOf(self.ask(session, "nothing"), errors.UnknownResource)
        self.assertEqual(self.successResultOf(self.ask(session)), QUOTE)

    def test_refusal_that_closes_the_connection(self) -> None:
        session = self.session(answering(wire.Error("replayed", "no")))
        self.failureResultOf(self.ask(session), errors.Replayed)
        self.assert_over(session, errors.Replayed)

    def test_refusal_of_a_solution(self) -> None:
        def say(server: FakeServer, message: wire.ClientMessage | None) -> None:
            if isinstance(message, wire.Request):
                server.send(challenge())
            elif message:
                server.send(wire.Error("unavailable", "no"))

        self.assert_fails(say, errors.Unavailable)

    def test_busy_on_connecting(self) -> None:
        def say(server: FakeServer, message: wire.ClientMessage | None) -> None:
            server.send(wire.Error("busy", "no", 1))
            server.transport.loseConnection()

        session = self.session(say)
        self.pump.flush()
        self.assertEqual(self.failureResultOf(self.ask(session), errors.Busy).value.retry_after, 1)

    def test_error_while_solving(self) -> None:
        """It stops the work, even if its code alone would not close the connection."""
        for code, kind in (("shutting_down", errors.ShuttingDown), ("expired", errors.Expired)):
            session = self.session(honestly, solver := SlowSolver())
            asked = self.ask(session)
            self.assertNoResult(asked)
            self.server.send(wire.Error(code, "no"))
            self.pump.flush()
            self.failureResultOf(asked, kind)
            self.assertEqual(solver.cancelled, 1)
            self.assert_over(session, kind)


class HostileServerTests(ClientTestCase):
    """What no server may do ends the connection, and what is asked for."""

    def assert_refused(self, say: Say, words: str) -> None:
        session = self.session(say)
        violation = self.failureResultOf(self.ask(session), ProtocolError).value
        self.assertIn(words, str(violation))
        self.assert_over(session, ProtocolError)

    def test_not_json(self) -> None:
        self.assert_refused(greeting(framed(b"HTTP/1.1 400")), "makes no sense")

    def test_empty_frame(self) -> None:
        self.assert_refused(greeting(framed(b"")), "makes no sense")

    def test_unknown_type(self) -> None:
        self.assert_refused(greeting(framed(b'{"type": "gift"}')), "makes no sense")

    def test_bad_field(self) -> None:
        for fields in ({"rounds": 65}, {"rounds": 0}, {"target": "FF"}, {"challenge": "a b"}):
            price = {"challenge": "A", "rounds": 1, "round_effort": 1, "target": "f" * 16}
            message = {"type": "challenge", "expires_in": 1, **price, **fields}
            self.assert_refused(greeting(framed(json.dumps(message).encode())), "makes no sense")

    def test_deep_nesting(self) -> None:
        self.assert_refused(greeting(framed(b"[" * 60_000)), "makes no sense")

    def test_oversized_frame(self) -> None:
        """It is refused by its announcement."""
        for length in (wire.MAX_SERVER_FRAME + 1, 2**32 - 1):
            self.assert_refused(greeting(struct.pack(">I", length)), str(length))

    def test_longest_frame(self) -> None:
        long = "a" * (wire.MAX_SERVER_FRAME - len(wire.encode(wire.Quote("", "", ""))))

        def say(server: FakeServer, message: wire.ClientMessage | None) -> None:
            if isinstance(message, wire.Request):
                server.send(challenge())
            elif message:
                server.send(wire.Quote(long, "", ""))

        self.assertEqual(self.successResultOf(self.ask(self.session(say))).text, long)

    def test_unasked_quote(self) -> None:
        self.assert_refused(greeting(wire.frame(QUOTE)), "unasked")

    def test_quote_in_place_of_a_challenge(self) -> None:
        self.assert_refused(answering(QUOTE), "quote unasked")

    def test_challenge_in_place_of_a_quote(self) -> None:
        self.assert_refused(answering(challenge()), "challenge unasked")

    def test_message_while_solving(self) -> None:
        session = self.session(answering(challenge()), self.slow)
        asked = self.ask(session)
        self.server.send(QUOTE)
        self.pump.flush()
        self.failureResultOf(asked, ProtocolError)
        self.assertEqual(self.slow.cancelled, 1)

    def test_other_algorithm(self) -> None:
        wants = challenge(algorithm="scrypt")
        self.assert_refused(answering(wants), "'scrypt'")

    def test_false_target(self) -> None:
        """A target that asks for more work than round_effort says."""
        wants = challenge(target="0" * 16)
        self.assert_refused(answering(wants), "round_effort")

    def test_too_expensive(self) -> None:
        def say(server: FakeServer, message: wire.ClientMessage | None) -> None:
            dear = message == wire.Request("dear")
            honestly(server, message, rounds=4, round_effort=26 if dear else 25)

        session = self.session(say, max_effort=100)
        dear = self.failureResultOf(self.ask(session, "dear"), TooExpensive).value
        self.assertEqual((dear.effort, dear.limit), (104, 100))
        self.assertEqual(str(dear), "the server asks for 104 hashes, the limit is 100")
        self.assertEqual(self.successResultOf(self.ask(session)), QUOTE)

    def test_too_expensive_by_default(self) -> None:
        wants = challenge(rounds=64, round_effort=2**20 + 1)
        self.assert_fails(answering(wants), TooExpensive)

    def test_nothing_is_taken_after_the_end(self) -> None:
        """Neither frames that came along with the bad one, nor memory."""
        protocol = self.bare()[0].protocol
        bad = struct.pack(">I", 1) + b"x"
        protocol.dataReceived(bad + wire.frame(challenge()) * 3 + b"\0")
        self.assertTrue(protocol.transport.aborting)
        held = len(protocol._unprocessed)
        protocol.dataReceived(b"x" * 1000)
        self.assertEqual(len(protocol._unprocessed), held)
        self.assertEqual(len(self.flushLoggedErrors()), 0)


class EndTests(ClientTestCase):
    """However a conversation ends, who waits is told at once and the work stops."""

    def asking(self, **limits: Any) -> Deferred[wire.Quote]:
        """A conversation in which the client is at work."""
        self.in_session = self.session(honestly, self.slow, **limits)
        asked = self.ask(self.in_session)
        self.assertEqual(len(self.slow.out), 1)
        self.assertNoResult(asked)
        return asked

    def test_lost_while_solving(self) -> None:
        asked = self.asking()
        self.server.transport.loseConnection()
        self.pump.flush()
        self.failureResultOf(asked, ConnectionDone, ConnectionLost)
        self.assertEqual(self.slow.cancelled, 1)

    def test_lost_while_waiting(self) -> None:
        session = self.session(silent)
        asked = self.ask(session)
        self.server.transport.loseConnection()
        self.pump.flush()
        self.failureResultOf(asked, ConnectionDone)

    def test_lost_between(self) -> None:
        session = self.session(honestly)
        self.successResultOf(self.ask(session))
        self.server.transport.loseConnection()
        self.pump.flush()
        self.assert_over(session, ConnectionDone)

    def test_lost_for_another_reason(self) -> None:
        """TLS has exceptions of its own: they come as one that callers know."""
        endpoint, session = self.bare()
        endpoint.protocol.connectionLost(Failure(ValueError("certificate verify failed")))
        lost = self.failureResultOf(session.ask(), ConnectionLost).value
        self.assertIn("certificate verify failed", str(lost))

    def test_cancel_while_solving(self) -> None:
        asked = self.asking()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.slow.cancelled, 1)
        self.assert_over(self.in_session, ConnectionAborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancel_while_waiting(self) -> None:
        session = self.session(silent)
        asked = self.ask(session)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assert_over(session, ConnectionAborted)

    def test_challenge_that_expires_is_not_worked_on(self) -> None:
        session = self.session(honestly, self.slow, timeout=1000)
        asked = self.ask(session)
        self.clock.advance(59)
        self.assertNoResult(asked)
        self.clock.advance(1)
        self.failureResultOf(asked, errors.Expired)
        self.assertEqual(self.slow.cancelled, 1)

    def test_challenge_without_time(self) -> None:
        for expires_in in (0, -1):
            self.assert_fails(answering(challenge(expires_in=expires_in)), ProtocolError)

    def test_time_out_while_solving(self) -> None:
        asked = self.asking(timeout=5)
        self.clock.advance(4.9)
        self.assertNoResult(asked)
        self.clock.advance(0.1)
        late = self.failureResultOf(asked, TimeoutError).value
        self.assertEqual(str(late), "no answer within 5 seconds")
        self.assertEqual(self.slow.cancelled, 1)
        self.assert_over(self.in_session, ConnectionAborted)

    def test_time_is_for_each_question(self) -> None:
        session = self.session(honestly, timeout=5)
        for _ in range(3):
            self.successResultOf(self.ask(session))
            self.clock.advance(4)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_drip(self) -> None:
        """Bytes do not buy a server time."""
        session = self.session(silent, timeout=5)
        asked = self.ask(session)
        self.server.transport.write(struct.pack(">I", 100))
        for _ in range(5):
            self.server.transport.write(b"\0")
            self.pump.flush()
            self.clock.advance(1)
        self.failureResultOf(asked, TimeoutError)

    def test_connecting_takes_too_long(self) -> None:
        given_up: list[object] = []

        @implementer(IStreamClientEndpoint)
        class Nowhere:
            def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
                return Deferred(given_up.append)

        connecting = connect(Nowhere(), SynchronousSolver(), self.clock, Limits(timeout=7))
        self.clock.advance(7)
        late = self.failureResultOf(connecting, TimeoutError).value
        self.assertEqual(str(late), "no connection within 7 seconds")
        self.assertEqual(len(given_up), 1)

    def test_solver_fails(self) -> None:
        """That is not the server's fault: the connection stays."""
        asked = self.asking()
        self.slow.out[0].errback(SolverFailed("no processes"))
        self.failureResultOf(asked, SolverFailed)
        again = self.ask(self.in_session)
        self.assertNoResult(again)
        self.assertFalse(self.server.lost)

    def test_solver_is_busy(self) -> None:
        class Busy(SlowSolver):
            def solve(self, *_: object) -> Deferred[list[int]]:
                raise RuntimeError

        session = self.session(honestly, Busy())
        self.failureResultOf(self.ask(session), RuntimeError)

    def test_close_while_solving(self) -> None:
        asked = self.asking()
        closed = self.in_session.close()
        self.failureResultOf(asked, ConnectionDone)
        self.assertEqual(self.slow.cancelled, 1)
        self.pump.flush()
        self.successResultOf(closed)

    def test_server_that_does_not_let_go(self) -> None:
        endpoint, session = self.bare()
        closed = session.close()
        self.assertTrue(endpoint.transport.disconnecting)
        self.assertFalse(endpoint.transport.aborting)
        self.clock.advance(1)
        self.assertTrue(endpoint.transport.aborting)
        endpoint.protocol.connectionLost(Failure(ConnectionAborted()))
        self.successResultOf(closed)

    def test_bad_limits(self) -> None:
        self.assertRaises(ValueError, Limits, max_effort=0)
        for seconds in (0, -1):
            self.assertRaises(ValueError, Limits, timeout=seconds)


_FRAMES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            wire.frame(challenge()),
            wire.frame(QUOTE),
            wire.frame(wire.Error("expired", "no")),
            wire.frame(wire.Error("busy", "no")),
            wire.frame(wire.Error("what", "?")),
            b"\0\0\0\0",
            b"\xff\xff\xff\xff",
            struct.pack(">I", 2) + b"{}",
        ]
    ),
)


class AnyBytesTests(ClientTestCase):
    """Whatever a server sends, in whatever pieces."""

    @given(st.lists(_FRAMES), st.lists(st.integers(1, 30)), st.booleans())
    def test_never_raises_nor_hangs(self, sent: list[bytes], cuts: list[int], slow: bool) -> None:
        self.setUp()
        endpoint, session = self.bare(self.slow if slow else None)
        asked = session.ask()
        data = b"".join(sent)
        for cut in [*cuts, len(data)]:
            endpoint.protocol.dataReceived(data[:cut])
            data = data[cut:]
        endpoint.protocol.connectionLost(Failure(ConnectionDone()))
        results: list[object] = []
        asked.addBoth(results.append)
        self.assertEqual(len(results), 1)
        self.assertTrue(all(puzzle.called for puzzle in self.slow.out))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])
