"""One connection's life, byte by byte, over an in-memory transport and a simulated clock."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from wow import errors, wire
from wow.clients import Clients
from wow.deadlines import TICK
from wow.guard import Allowance, Guard, Lists, Scope
from wow.logs import make_logger
from wow.metrics import Metrics
from wow.pow.pricing import Pricing
from wow.pow.resource import IProtectedResource
from wow.pow.service import ProofOfWork
from wow.pow.spent import MemorySpentStore
from wow.pow.token import bind, pack
from wow.pow.work import search
from wow.rate import Rate
from wow.seats import Seats
from wow.server import Gate, GateProtocol, Limits
from wow.test.test_token import RING

REQUEST = wire.frame(wire.Request())
NO_LISTS = Lists((), ())
QUOTE = wire.Quote("Know thyself.", "Thales", "test")


@implementer(IProtectedResource)
class Quotes:
    """A resource whose answer a test chooses."""

    def __init__(self) -> None:
        self.answer: Any = QUOTE

    def prepare(self, client: bytes) -> Deferred[Any]:
        return self.answer if isinstance(self.answer, Deferred) else succeed(self.answer)


class Transport(StringTransport):
    """Notes what the server does to it."""

    aborted = False
    bufferSize = 2**16

    def abortConnection(self) -> None:
        self.aborted = True


class Plain(Transport):
    """A transport that can write at once, as that of a plain socket can, and always does."""

    def writeSomeData(self, data: bytes) -> int | Exception:
        self.write(data)
        return len(data)


class Socket(Transport):
    """
    The same, with a limit.

    @ivar room: bytes that the socket takes before it is full.
    @ivar taken: what it took.
    """

    room = 10**6
    broken = False
    taken = b""

    def writeSomeData(self, data: bytes) -> int | Exception:
        if self.broken:
            return ConnectionLost()
        taken = data[: self.room]
        self.room -= len(taken)
        self.taken += taken
        return len(taken)


class Conversation:
    """One connection that was admitted, seen from its client."""

    def __init__(self, gate: Gate, peer: IAddress) -> None:
        protocol = gate.buildProtocol(peer)
        assert isinstance(protocol, GateProtocol)
        self.protocol = protocol
        self.transport = Plain(peerAddress=peer)
        self.protocol.makeConnection(self.transport)
        self._read = 0

    def send(self, data: bytes) -> None:
        if self.reading:
            self.protocol.dataReceived(data)
        else:
            raise AssertionError("the server does not read")

    def hear(self) -> list[dict[str, Any]]:
        """The messages that arrived since the last call."""
        data, messages = self.transport.value(), []
        while self._read < len(data):
            start = self._read + 4
            self._read = start + int.from_bytes(data[start - 4 : start], "big")
            messages.append(json.loads(data[start : self._read]))
        return messages

    def ask(self, message: wire.ClientMessage) -> dict[str, Any]:
        self.send(wire.frame(message))
        (answer,) = self.hear()
        return answer

    def codes(self) -> list[str]:
        """What arrived, by error code or type."""
        return [message.get("code", message["type"]) for message in self.hear()]

    @property
    def reading(self) -> bool:
        return self.transport.producerState == "producing" and not self.closing

    @property
    def closing(self) -> bool:
        return self.transport.disconnecting or self.transport.aborted

    def lose(self) -> None:
        if not self.transport.disconnected:
            self.transport.disconnected = True
            self.protocol.connectionLost()


class Served(SynchronousTestCase):
    """
    A gate whose every round any nonce solves.

    @ivar make_protocol: makes what serves its connections.
    """

    make_protocol: Callable[..., GateProtocol] = GateProtocol

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.logged = io.StringIO()
        self.quotes = Quotes()
        self.metrics = Metrics()
        self.spent = MemorySpentStore(self.now_ms, 60_000)
        self.spent.open()
        self.turned_away: list[bytes] = []
        self.gate = self.make_gate()

    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def make_gate(
        self,
        *,
        seats: tuple[int, int] = (100, 100),
        allowance: Mapping[str, Any] = MappingProxyType({}),
        lists: Lists = NO_LISTS,
        explained: int = 100,
        **limits: Any,
    ) -> Gate:
        """
        @param seats: for connections, and for those half begun.
        """
        log = make_logger(self.logged, "debug", "json")
        pricing = Pricing(
            base=2,
            floor=2,
            ceiling=2**20,
            rounds=2,
            load=0.5,
            busy=lambda: 0.0,
            seconds=self.clock.seconds,
        )
        proof_of_work = ProofOfWork(
            keys=RING,
            pricing=pricing,
            ttl_ms=60_000,
            skew_ms=5_000,
            bind_clients=True,
            spent=self.spent,
            resources={"quote": self.quotes},
            now_ms=self.now_ms,
            effort_asked=self.metrics.effort_asked,
            effort_paid=self.metrics.effort_paid,
            challenges=self.metrics.challenges,
            solve_time=self.metrics.solve_time,
        )
        defaults = Limits(4096, 30, 65, 3600, 1000, 5)
        return Gate(
            proof_of_work,
            Guard(
                lists,
                (Scope(Allowance(**{**_PLENTY, **allowance}), Clients(100), {5: 5, 17: 17}),),
            ),
            Seats(*seats),
            Rate(1, explained),
            self.turned_away.append,
            Limits(**{**{name: getattr(defaults, name) for name in _LIMITS}, **limits}),
            (32, 64),
            self.clock,
            self.metrics,
            log,
            self.make_protocol,
        )

    def connect(self, host: str = "192.0.2.7") -> Conversation:
        conversation = Conversation(self.gate, IPv4Address("TCP", host, 40000))
        self.addCleanup(conversation.lose)
        return conversation

    def assertNothingTicks(self) -> None:
        """The timer that the deadlines share ends when it finds none."""
        self.clock.advance(TICK)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def knock(self, host: str) -> Socket:
        """Connect with a socket that takes data at once, whether or not one is admitted."""
        socket = Socket(peerAddress=IPv4Address("TCP", host, 40000))
        protocol = self.gate.buildProtocol(socket.getPeer())
        if protocol is None:
            socket.aborted = True
            return socket
        protocol.makeConnection(socket)
        self.addCleanup(protocol.connectionLost)
        return socket

    def solution(self, conversation: Conversation | None = None) -> wire.Solution:
        challenge = (conversation or self.connect()).ask(wire.Request())
        return wire.Solution(challenge["challenge"], [0, 0])

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def outcomes(self, kind: str, code: str) -> float:
        return self.count("wow_outcomes_total", type=kind, code=code)


_PLENTY = {
    "connections": 1000,
    "connecting": Rate(1000, 1000),
    "asking": Rate(1000, 1000),
    "failing": Rate(1000, 1000),
}
_LIMITS = ("max_frame", "idle", "solving", "lifetime", "exchanges", "linger")


class Exchanges(Served):
    def test_ask_prove_get_a_quote(self) -> None:
        client = self.connect()
        challenge = client.ask(wire.Request())
        self.assertEqual(
            {key: value for key, value in challenge.items() if key != "challenge"},
            {
                "type": "challenge",
                "algorithm": "sha256",
                "rounds": 2,
                "round_effort": 1,
                "target": "f" * 16,
                "expires_in": 60.0,
            },
        )
        quote = client.ask(wire.Solution(challenge["challenge"], [0, 0]))
        self.assertEqual(
            quote,
            {"type": "quote", "text": "Know thyself.", "author": "Thales", "source": "test"},
        )
        self.assertFalse(client.closing)

    def test_server_is_silent_until_spoken_to(self) -> None:
        client = self.connect()
        self.clock.advance(29)
        self.assertEqual(client.hear(), [])

    def test_many_on_one_connection(self) -> None:
        client = self.connect()
        for _ in range(20):
            self.assertEqual(client.ask(self.solution(client))["type"], "quote")

    def test_solution_on_another_connection(self) -> None:
        solution = self.solution()
        self.assertEqual(self.connect().ask(solution)["type"], "quote")

    def test_as_many_as_are_allowed(self) -> None:
        self.gate = self.make_gate(exchanges=2)
        client = self.connect()
        for _ in range(2):
            client.ask(self.solution(client))
        self.assertEqual(client.ask(wire.Request())["code"], "busy")
        self.assertTrue(client.closing)

    def test_outcomes_are_counted(self) -> None:
        client = self.connect()
        client.ask(self.solution(client))
        for kind in ("request", "solution"):
            self.assertEqual(self.count("wow_requests_total", type=kind), 1)
            self.assertEqual(self.outcomes(kind, "ok"), 1)
            self.assertEqual(self.count("wow_answer_duration_seconds_count", type=kind), 1)
        self.assertEqual(self.count("wow_connections"), 1)
        client.lose()
        self.assertEqual(self.count("wow_connections"), 0)
        self.assertEqual(self.count("wow_connections_opened_total"), 1)

    def test_whole_exchange_is_timed(self) -> None:
        client = self.connect()
        solution = self.solution(client)
        self.clock.advance(2)
        client.ask(solution)
        self.assertEqual(self.count("wow_exchange_duration_seconds_sum"), 2)
        self.assertEqual(self.count("wow_exchange_duration_seconds_count"), 1)
        self.assertAlmostEqual(self.count("wow_solve_time_seconds_sum"), 2, 2)

    def test_exchange_over_two_connections_is_not_timed(self) -> None:
        first, second = self.connect(), self.connect()
        second.ask(self.solution(first))
        self.assertEqual(self.count("wow_exchange_duration_seconds_count"), 0)
        second.ask(self.solution(second))
        second.ask(self.solution(first))
        self.assertEqual(self.count("wow_exchange_duration_seconds_count"), 1)

    def test_state(self) -> None:
        client = self.connect()
        states = [client.protocol.state]
        solution = self.solution(client)
        states.append(client.protocol.state)
        self.quotes.answer = Deferred()
        client.send(wire.frame(solution))
        states.append(client.protocol.state)
        self.quotes.answer.callback(QUOTE)
        states.append(client.protocol.state)
        client.protocol.hang_up()
        states.append(client.protocol.state)
        self.assertEqual(states, ["silent", "solving", "answering", "idle", "closing"])

    def test_unix_socket(self) -> None:
        client = Conversation(self.gate, UNIXAddress("/run/wow.sock"))
        self.addCleanup(client.lose)
        self.assertEqual(client.ask(self.solution(client))["type"], "quote")


class Refusals(Served):
    """Every error code of the protocol, and whether the connection survives it."""

    def test_counted_by_stage(self) -> None:
        client = self.connect()
        client.ask(wire.Request("riches"))
        client.ask(wire.Solution("bogus", [0, 0]))
        for stage, code in (("issue", "unknown_resource"), ("token", "invalid_challenge")):
            self.assertEqual(self.count("wow_refusals_total", stage=stage, code=code), 1)

    def check(self, client: Conversation, code: str, retry_after: bool = False) -> None:
        answer = client.hear()[-1]
        self.assertEqual((answer["type"], answer["code"]), ("error", code))
        self.assertEqual("retry_after" in answer, retry_after)
        self.assertTrue(answer["message"].endswith((".", "`")), answer["message"])
        self.assertIs(client.closing, errors.BY_CODE[code].closes)

    def test_frame_too_large(self) -> None:
        for announced in (4097, 65536, 2**31, 2**32 - 1):
            client = self.connect()
            client.send(announced.to_bytes(4, "big"))
            self.check(client, "frame_too_large")

    def test_empty_frame(self) -> None:
        client = self.connect()
        client.send(bytes(4))
        self.check(client, "frame_too_large")

    def test_many_empty_frames_are_answered_once(self) -> None:
        client = self.connect()
        client.send(bytes(65536))
        self.assertEqual(client.codes(), ["frame_too_large"])

    def test_longest_frame(self) -> None:
        client = self.connect()
        client.send((4096).to_bytes(4, "big") + wire.encode(wire.Request()).ljust(4096))
        self.assertEqual(client.codes(), ["challenge"])

    def test_malformed(self) -> None:
        client = self.connect()
        client.send(b"\x00\x00\x00\x02{}")
        self.check(client, "malformed")

    def test_unknown_resource(self) -> None:
        client = self.connect()
        client.send(wire.frame(wire.Request("riches")))
        self.check(client, "unknown_resource")
        self.assertEqual(client.ask(wire.Request())["type"], "challenge")

    def test_invalid_challenge(self) -> None:
        client = self.connect()
        client.send(wire.frame(wire.Solution("A" * 98, [0])))
        self.check(client, "invalid_challenge")

    def test_other_clients_challenge(self) -> None:
        client = self.connect("192.0.2.8")
        client.send(wire.frame(self.solution()))
        self.check(client, "invalid_challenge")

    def test_expired(self) -> None:
        solution = self.solution()
        self.clock.advance(66)
        client = self.connect()
        client.send(wire.frame(solution))
        self.check(client, "expired")

    def test_insufficient_work(self) -> None:
        client = self.connect()
        solution = self.solution()
        client.send(wire.frame(wire.Solution(solution.challenge, [0])))
        self.check(client, "insufficient_work")

    def test_replayed(self) -> None:
        solution = self.solution()
        self.connect().ask(solution)
        client = self.connect()
        client.send(wire.frame(solution))
        self.check(client, "replayed")

    def test_rate_limited(self) -> None:
        self.gate = self.make_gate(allowance={"asking": Rate(1, 1)})
        client = self.connect()
        client.ask(wire.Request())
        client.send(REQUEST)
        self.check(client, "rate_limited", retry_after=True)
        self.assertEqual(self.connect("192.0.2.8").ask(wire.Request())["type"], "challenge")

    def test_busy(self) -> None:
        self.gate = self.make_gate(seats=(1, 1))
        first = self.connect()
        first.ask(wire.Request())
        newcomer = self.connect()
        self.check(first, "busy", retry_after=True)
        self.assertEqual(newcomer.ask(wire.Request())["type"], "challenge")

    def test_unavailable(self) -> None:
        client = self.connect()
        solution = self.solution(client)
        self.quotes.answer = fail(errors.Unavailable(retry_after=1))
        client.send(wire.frame(solution))
        self.check(client, "unavailable", retry_after=True)
        self.quotes.answer = QUOTE
        self.assertEqual(client.ask(solution)["type"], "quote")

    def test_internal(self) -> None:
        client = self.connect()
        solution = self.solution(client)
        self.quotes.answer = fail(ZeroDivisionError("a secret"))
        client.send(wire.frame(solution))
        self.check(client, "internal")
        self.assertNotIn(b"secret", client.transport.value())
        (line,) = [line for line in self.logged.getvalue().splitlines() if "internal_error" in line]
        self.assertIn("ZeroDivisionError", json.loads(line)["exception"])
        self.assertEqual(self.connect().ask(wire.Request())["type"], "challenge")

    def test_fault_before_any_deferred(self) -> None:
        client = self.connect()
        self.patch(self.gate.proof_of_work, "issue", lambda *_: 1 / 0)
        client.send(REQUEST)
        self.check(client, "internal")

    def test_fault_on_connecting(self) -> None:
        socket = self.knock("no address")
        self.assertIn(b'"code":"internal"', socket.taken)
        self.assertIn("internal_error", self.logged.getvalue())

    def test_malformed_frame_is_no_request(self) -> None:
        client = self.connect()
        client.send(REQUEST + b"\x00\x00\x00\x02{}")
        self.assertEqual(self.outcomes("request", "malformed"), 0)
        self.assertEqual(self.outcomes("connection", "malformed"), 1)

    def test_client_is_named_in_the_log(self) -> None:
        self.connect().send(b"\x00\x00\x00\x02{}")
        line = json.loads(self.logged.getvalue().splitlines()[-1])
        self.assertEqual((line["event"], line["client"]), ("refused", "192.0.2.7"))

    def test_refusals_are_counted_by_kind(self) -> None:
        self.test_malformed()
        self.test_unknown_resource()
        self.test_expired()
        self.assertEqual(self.outcomes("connection", "malformed"), 1)
        self.assertEqual(self.outcomes("request", "unknown_resource"), 1)
        self.assertEqual(self.outcomes("solution", "expired"), 1)


class Deadlines(Served):
    def test_silent_client(self) -> None:
        client = self.connect()
        self.clock.advance(29.9)
        self.assertFalse(client.closing)
        self.clock.advance(0.2)
        self.assertEqual(client.codes(), ["timeout"])
        self.assertTrue(client.closing)

    def test_dripping_is_no_better_than_silence(self) -> None:
        client = self.connect()
        for byte in wire.frame(wire.Request())[:-1]:
            if client.closing:
                break
            client.send(bytes((byte,)))
            self.clock.advance(1)
        self.assertEqual(client.codes(), ["timeout"])

    def test_after_a_refusal(self) -> None:
        solution = self.solution()
        self.clock.advance(66)
        client = self.connect()
        client.ask(solution)
        self.clock.advance(30)
        self.assertEqual(client.codes(), ["timeout"])
        self.assertEqual(self.outcomes("connection", "timeout"), 2)

    def test_complete_frames_earn_time(self) -> None:
        client = self.connect()
        for _ in range(5):
            self.clock.advance(20)
            client.ask(wire.Request())
        self.assertFalse(client.closing)

    def test_solving_takes_as_long_as_the_challenge_lives(self) -> None:
        client = self.connect()
        client.ask(wire.Request())
        self.clock.advance(64.9)
        self.assertFalse(client.closing)
        self.clock.advance(0.2)
        self.assertEqual(client.codes(), ["timeout"])

    def test_after_the_quote_it_is_idle_again(self) -> None:
        client = self.connect()
        client.ask(self.solution(client))
        self.clock.advance(30)
        self.assertEqual(client.codes(), ["timeout"])

    def test_lifetime(self) -> None:
        self.gate = self.make_gate(lifetime=100)
        client = self.connect()
        for _ in range(9):
            self.clock.advance(11)
            client.ask(wire.Request())
        self.clock.advance(1)
        self.assertEqual(client.codes(), ["timeout"])

    def test_peer_that_never_reads_is_reset(self) -> None:
        client = self.connect()
        self.clock.advance(30)
        self.assertTrue(client.closing)
        self.assertFalse(client.transport.aborted)
        self.clock.advance(5)
        self.assertTrue(client.transport.aborted)

    def test_nothing_is_left_ticking(self) -> None:
        for end in (30, 1):
            client = self.connect()
            self.clock.advance(end)
            client.lose()
            self.assertNothingTicks()

    def test_own_slowness_is_not_the_clients(self) -> None:
        client = self.connect()
        solution = self.solution(client)
        self.quotes.answer = Deferred()
        client.send(wire.frame(solution))
        self.clock.advance(1000)
        self.assertFalse(client.closing)
        self.quotes.answer.callback(QUOTE)
        self.assertEqual(client.codes(), ["quote"])
        self.clock.advance(30)
        self.assertEqual(client.codes(), ["timeout"])

    def test_solving_in_between_gives_no_longer_idleness(self) -> None:
        client = self.connect()
        self.clock.advance(20)
        solution = self.solution(client)
        self.clock.advance(20)
        client.ask(solution)
        self.clock.advance(29.9)
        self.assertFalse(client.closing)
        self.clock.advance(0.2)
        self.assertEqual(client.codes(), ["timeout"])

    def test_frame_after_the_end_of_its_lifetime(self) -> None:
        self.gate = self.make_gate(lifetime=100)
        client = self.connect()
        solution = self.solution(client)
        self.quotes.answer = Deferred()
        client.send(wire.frame(solution) + REQUEST)
        self.clock.advance(101)
        self.quotes.answer.callback(QUOTE)
        self.assertEqual(client.codes(), ["quote", "timeout"])


class Order(Served):
    """Pipelined frames are answered in order, one at a time, and only as fast as they are read."""

    def setUp(self) -> None:
        super().setUp()
        self.client = self.connect()

    def pending(self, *after: bytes) -> Deferred[wire.Quote]:
        """Leave an answer outstanding, with these frames sent right behind."""
        solution = self.solution(self.client)
        answer = self.quotes.answer = Deferred[wire.Quote]()
        self.client.send(wire.frame(solution) + b"".join(after))
        return answer

    def test_pipelined_frames(self) -> None:
        solution = wire.frame(self.solution(self.client))
        self.client.send(REQUEST + solution + REQUEST)
        self.assertEqual(self.client.codes(), ["challenge", "quote", "challenge"])

    def test_nothing_is_read_while_an_answer_is_awaited(self) -> None:
        answer = self.pending(REQUEST, wire.frame(wire.Request("riches")))
        self.assertFalse(self.client.reading)
        self.assertEqual(self.client.hear(), [])
        answer.callback(QUOTE)
        self.assertEqual(self.client.codes(), ["quote", "challenge", "unknown_resource"])
        self.assertTrue(self.client.reading)

    def test_nothing_is_read_from_a_peer_that_does_not_read(self) -> None:
        self.client.protocol.pauseProducing()
        self.assertFalse(self.client.reading)
        self.client.protocol.resumeProducing()
        self.assertEqual(self.client.ask(wire.Request())["type"], "challenge")

    def test_full_buffer_stops_the_answers(self) -> None:
        written = self.client.transport.write

        def write(data: bytes) -> None:
            written(data)
            self.client.protocol.pauseProducing()

        self.patch(self.client.transport, "write", write)
        self.client.send(REQUEST * 5)
        for _ in range(5):
            self.assertEqual(self.client.codes(), ["challenge"])
            self.client.protocol.resumeProducing()
        self.assertEqual(self.client.codes(), [])

    def test_both_reasons_must_be_gone(self) -> None:
        answer = self.pending(REQUEST)
        self.client.protocol.pauseProducing()
        self.client.protocol.resumeProducing()
        self.assertEqual(self.client.hear(), [])
        self.client.protocol.pauseProducing()
        answer.callback(QUOTE)
        self.assertEqual(self.client.codes(), ["quote"])
        self.assertFalse(self.client.reading)
        self.client.protocol.resumeProducing()
        self.assertEqual(self.client.codes(), ["challenge"])

    def test_nothing_is_acted_on_after_the_last_word(self) -> None:
        self.client.send(b"\x00\x00\x00\x02{}" + REQUEST * 3)
        self.assertEqual(self.client.codes(), ["malformed"])
        self.assertEqual(self.count("wow_requests_total", type="request"), 0)
        self.client.protocol.dataReceived(REQUEST)
        self.assertEqual(self.count("wow_requests_total", type="request"), 0)
        self.client.protocol.dataReceived(b"\xff" * 100)
        self.assertEqual(self.client.codes(), [])
        self.assertNotIn(b"\xff", self.client.protocol._unprocessed)

    def test_answer_to_a_lost_connection_goes_nowhere(self) -> None:
        answer = self.pending(REQUEST)
        self.client.lose()
        answer.callback(QUOTE)
        self.assertEqual(self.client.hear(), [])
        self.assertNothingTicks()

    def test_failure_that_comes_late(self) -> None:
        answer = self.pending(REQUEST)
        answer.errback(errors.Unavailable())
        self.assertEqual(self.client.codes(), ["unavailable", "challenge"])
        answer = self.pending(REQUEST)
        answer.errback(ZeroDivisionError())
        self.assertEqual(self.client.codes(), ["internal"])


class Writing(Served):
    """What is said reaches the socket at once, whole and in order."""

    def setUp(self) -> None:
        super().setUp()
        self.socket = Socket(peerAddress=IPv4Address("TCP", "192.0.2.7", 40000))
        protocol = self.gate.buildProtocol(None)
        assert protocol is not None
        self.protocol = protocol
        self.protocol.makeConnection(self.socket)
        self.addCleanup(self.protocol.connectionLost)

    def test_at_once(self) -> None:
        self.protocol.dataReceived(REQUEST * 3)
        self.assertEqual(self.socket.taken.count(b'"challenge"'), 6)
        self.assertEqual(self.socket.value(), b"")

    def test_what_the_socket_does_not_take_is_buffered_in_order(self) -> None:
        self.protocol.dataReceived(REQUEST)
        first = self.socket.taken
        self.socket.room = 100
        self.protocol.dataReceived(REQUEST)
        self.socket.room = 10**6
        self.protocol.dataReceived(REQUEST)
        self.assertEqual(len(self.socket.taken), len(first) + 100)
        heard = self.socket.taken + self.socket.value()
        self.assertEqual(len(heard), 3 * len(first))
        self.assertEqual(heard.count(first[:5]), 3)

    def test_full_socket(self) -> None:
        self.socket.room = 0
        self.protocol.dataReceived(REQUEST)
        self.assertEqual(self.socket.taken, b"")
        self.assertEqual(self.socket.value().count(b'"type":"challenge"'), 1)

    def test_broken_socket_is_left_to_the_reactor(self) -> None:
        self.socket.broken = True
        self.protocol.dataReceived(REQUEST)
        self.assertEqual(self.socket.value().count(b'"type":"challenge"'), 1)


class Tls(Served):
    """A transport that wraps another, and passes on to it what it does not have itself."""

    class Wrapper(Transport):
        def __init__(self, wrapped: Socket, **options: Any) -> None:
            super().__init__(**options)
            self._wrapped = wrapped

        def __getattr__(self, name: str) -> Any:
            return getattr(self._wrapped, name)

    def setUp(self) -> None:
        Served.setUp(self)
        peer = IPv4Address("TCP", "192.0.2.7", 40000)
        self.socket = Socket()
        self.wrapper = self.Wrapper(self.socket, peerAddress=peer)

    def speak(self) -> None:
        protocol = self.gate.buildProtocol(self.wrapper.getPeer())
        assert protocol is not None
        self.protocol = protocol
        self.protocol.makeConnection(self.wrapper)
        self.addCleanup(self.protocol.connectionLost)

    def test_nothing_bypasses_the_wrapper(self) -> None:
        self.speak()
        self.protocol.dataReceived(REQUEST)
        self.assertEqual(self.socket.taken + self.socket.value(), b"")
        self.assertEqual(self.wrapper.value().count(b'"type":"challenge"'), 1)

    def test_no_handshake_is_waited_for_to_say_busy(self) -> None:
        self.gate = self.make_gate(allowance={"connections": 1})
        self.connect()
        self.speak()
        self.assertTrue(self.wrapper.aborted)
        self.assertEqual(self.socket.taken + self.socket.value(), b"")


class NotAdmitted(Served):
    """Who is not admitted is told why, up to a rate; and reset, at no more cost than that."""

    def test_told_why(self) -> None:
        self.gate = self.make_gate(allowance={"connections": 1})
        self.connect()
        socket = self.knock("192.0.2.7")
        self.assertIn(b'"code":"busy"', socket.taken)
        self.assertIn(b'"retry_after":1', socket.taken)
        self.assertTrue(socket.disconnecting)

    def test_reset_beyond_a_rate(self) -> None:
        self.gate = self.make_gate(allowance={"connections": 1}, explained=2)
        self.connect()
        told = [self.knock("192.0.2.7").taken != b"" for _ in range(5)]
        self.assertEqual(told, [True, True, False, False, False])
        self.clock.advance(1)
        self.assertIn(b"busy", self.knock("192.0.2.7").taken)

    def test_denied_are_told_nothing(self) -> None:
        self.gate = self.make_gate(lists=Lists((), (pack("192.0.2.7"),)))
        self.assertIsNone(self.gate.buildProtocol(IPv4Address("TCP", "192.0.2.7", 40000)))

    def test_denied_do_not_speak_for_their_neighbours(self) -> None:
        self.gate = self.make_gate(lists=Lists((), (pack("2001:db8::1"),)))
        self.assertIsNone(self.gate.buildProtocol(IPv6Address("TCP", "2001:db8::1", 40000)))
        self.assertEqual(self.turned_away, [])

    def test_are_told_of_by_their_prefix(self) -> None:
        self.test_told_why()
        self.assertEqual(self.turned_away, [bind(pack("192.0.2.7"))])

    def test_reasons_are_counted(self) -> None:
        self.test_denied_are_told_nothing()
        self.assertEqual(self.count("wow_connections_turned_away_total", reason="denied"), 1)
        self.test_told_why()
        self.assertEqual(self.count("wow_connections_turned_away_total", reason="connections"), 1)

    def test_others_are(self) -> None:
        self.gate = self.make_gate(allowance={"connections": 1}, explained=1)
        self.connect()
        self.knock("192.0.2.7")
        self.assertEqual(self.connect("192.0.2.8").ask(wire.Request())["type"], "challenge")

    def test_place_is_free_after_the_connection(self) -> None:
        self.gate = self.make_gate(allowance={"connections": 1})
        for _ in range(3):
            client = self.connect()
            client.ask(wire.Request())
            client.lose()


class Crowds(Served):
    """The connection that was silent for longest gives way to a newcomer."""

    def test_silent_ones_are_reset(self) -> None:
        self.gate = self.make_gate(seats=(2, 2))
        silent = self.connect()
        speaker = self.connect()
        speaker.ask(wire.Request())
        self.connect()
        self.assertTrue(silent.transport.aborted)
        self.assertEqual(silent.hear(), [])
        self.assertFalse(speaker.closing)
        self.assertEqual(self.count("wow_connections_displaced_total", begun="no"), 1)

    def test_those_that_spoke_are_told(self) -> None:
        self.gate = self.make_gate(seats=(1, 1))
        speaker = self.connect()
        speaker.ask(wire.Request())
        self.connect()
        self.assertEqual(speaker.codes(), ["busy"])
        self.assertEqual(self.count("wow_connections_displaced_total", begun="yes"), 1)

    def test_reset_beyond_a_rate(self) -> None:
        self.gate = self.make_gate(seats=(1, 1), explained=1)
        speakers = [self.connect()]
        for _ in range(3):
            speakers[-1].ask(wire.Request())
            speakers.append(self.connect())
        self.assertEqual([bool(client.hear()) for client in speakers[:3]], [True, False, False])
        self.assertEqual([client.transport.aborted for client in speakers[1:3]], [True, True])

    def test_one_that_was_told_something_before_is_reset(self) -> None:
        self.gate = self.make_gate(seats=(1, 1), explained=1)
        client = self.connect()
        client.send(b"\x00\x00\x00\x02{}")
        self.connect()
        self.assertEqual(client.codes(), ["malformed"])
        self.assertTrue(client.transport.aborted)
        self.assertTrue(self.gate.explains())

    def test_one_that_does_not_read_is_reset(self) -> None:
        self.gate = self.make_gate(seats=(1, 1))
        client = self.connect()
        client.ask(wire.Request())
        self.patch(client.transport, "writeSomeData", lambda data: 0)
        self.connect()
        self.assertTrue(client.transport.aborted)

    def test_a_speaker_is_heard_of_last(self) -> None:
        self.gate = self.make_gate(seats=(2, 2))
        speaker, silent = self.connect(), self.connect()
        self.clock.advance(1)
        speaker.ask(wire.Request())
        self.connect()
        self.assertEqual([speaker.closing, silent.closing], [False, True])

    def test_giving_way_is_no_requests_outcome(self) -> None:
        self.test_those_that_spoke_are_told()
        self.assertEqual(self.outcomes("connection", "busy"), 1)

    def test_a_place_is_free_at_once(self) -> None:
        self.gate = self.make_gate(seats=(3, 1))
        for _ in range(10):
            self.connect()
        self.assertEqual(self.count("wow_connections"), 1)
        self.assertEqual(self.count("wow_connections_half_begun"), 1)

    def test_nothing_is_left_ticking(self) -> None:
        self.gate = self.make_gate(seats=(1, 1))
        clients = [self.connect() for _ in range(5)]
        for client in clients:
            client.lose()
        self.assertNothingTicks()
        self.assertEqual(self.count("wow_connections"), 0)


class Faults(Served):
    """What no client in order does is counted, and too much of it is not answered any more."""

    def setUp(self) -> None:
        super().setUp()
        self.gate = self.make_gate(allowance={"failing": Rate(1, 2)})

    def locked_out(self) -> bool:
        return b"busy" in self.knock("192.0.2.7").taken

    def test_too_many_refusals(self) -> None:
        codes = []
        for _ in range(2):
            client = self.connect()
            client.send(b"\x00\x00\x00\x02{}")
            codes.append(client.codes())
        self.assertEqual(codes, [["malformed"]] * 2)
        self.assertTrue(self.locked_out())

    def test_on_a_connection_that_would_be_kept(self) -> None:
        client = self.connect()
        client.send(wire.frame(wire.Request("riches")) * 5)
        self.assertEqual(client.codes(), ["unknown_resource"] * 2)
        self.assertTrue(client.transport.aborted)
        self.assertEqual(self.count("wow_requests_total", type="request"), 3)

    def test_connections_that_end_without_a_frame(self) -> None:
        for _ in range(2):
            self.assertFalse(self.locked_out())
            client = self.connect()
            client.send(REQUEST[:-1])
            client.lose()
        self.assertTrue(self.locked_out())

    def test_silence(self) -> None:
        self.gate = self.make_gate(allowance={"failing": Rate(0.01, 2)})
        for _ in range(2):
            client = self.connect()
            self.clock.advance(30)
            self.assertEqual(client.codes(), ["timeout"])
            client.lose()
        self.assertTrue(self.locked_out())

    def test_connections_that_carried_something_are_fine(self) -> None:
        for _ in range(5):
            client = self.connect()
            client.ask(wire.Request())
            client.lose()
        self.assertFalse(self.locked_out())

    def test_own_troubles_are_not_the_clients(self) -> None:
        client = self.connect()
        solution = self.solution(client)
        for _ in range(5):
            self.quotes.answer = fail(errors.Unavailable())
            self.assertEqual(client.ask(solution)["code"], "unavailable")

    def test_raise_the_price(self) -> None:
        self.gate = self.make_gate()
        client = self.connect()
        for _ in range(20):
            # One point for the request, and one for what it asked for.
            client.ask(wire.Request("riches"))
        self.assertEqual(client.ask(wire.Request())["round_effort"], 2)
        self.assertEqual(self.connect("192.0.2.8").ask(wire.Request())["round_effort"], 1)

    def test_redeeming_lowers_it_again(self) -> None:
        self.gate = self.make_gate()
        client = self.connect()
        for _ in range(20):
            # One point for the request, and one for what it asked for.
            client.ask(wire.Request("riches"))
        efforts = []
        for _ in range(30):
            challenge = client.ask(wire.Request())
            efforts.append(challenge["round_effort"])
            self.solve(client, challenge)
        self.assertEqual((efforts[0], efforts[-1]), (2, 1))

    def solve(self, client: Conversation, challenge: dict[str, Any]) -> None:
        token, target = challenge["challenge"], int(challenge["target"], 16)
        nonces = []
        for index in range(challenge["rounds"]):
            nonce = search(token, index, target, 0, 10_000)
            assert nonce is not None
            nonces.append(nonce)
        self.assertEqual(client.ask(wire.Solution(token, nonces))["type"], "quote")


class TakingTurns(Served):
    """A connection with many frames at once lets others have their turn."""

    def test_a_few_frames_at_a_time(self) -> None:
        client = self.connect()
        client.send(REQUEST * 40)
        self.assertEqual(len(client.hear()), 4)
        self.assertFalse(client.reading)
        self.clock.advance(0)
        self.assertEqual(len(client.hear()), 36)
        self.assertTrue(client.reading)

    def test_one_that_does_not_read_has_no_turn(self) -> None:
        client = self.connect()
        client.send(REQUEST * 40)
        client.protocol.pauseProducing()
        self.clock.advance(0)
        self.assertEqual(len(client.hear()), 4)
        client.protocol.resumeProducing()
        self.assertEqual(len(client.hear()), 4)
        self.assertFalse(client.reading)

    def test_one_whose_turn_ends_with_its_last_word(self) -> None:
        client = self.connect()
        client.send(REQUEST * 3 + b"\x00\x00\x00\x02{}" + REQUEST)
        self.clock.advance(0)
        self.assertEqual(client.codes(), ["challenge"] * 3 + ["malformed"])

    def test_little_is_read_ahead(self) -> None:
        self.assertEqual(self.connect().transport.bufferSize, 2 * 4096)

    def test_reading_does_not_earn_a_turn(self) -> None:
        client = self.connect()
        client.send(REQUEST * 40)
        client.protocol.pauseProducing()
        client.protocol.resumeProducing()
        self.assertEqual(len(client.hear()), 4)

    def test_lost_in_between(self) -> None:
        client = self.connect()
        client.send(REQUEST * 40)
        client.lose()
        self.clock.advance(0)
        self.assertEqual(len(client.hear()), 4)
        self.assertNothingTicks()


class WhomTheOperatorKnows(Served):
    def test_denied_from_now_on(self) -> None:
        mallory, alice = self.connect("192.0.2.7"), self.connect("192.0.2.8")
        self.gate.enforce(Lists((), (pack("192.0.2.7"),)))
        self.assertTrue(mallory.transport.aborted)
        self.assertEqual(alice.ask(wire.Request())["type"], "challenge")
        self.assertTrue(self.knock("192.0.2.7").aborted)

    def test_allowed_from_now_on(self) -> None:
        self.gate = self.make_gate(allowance={"connections": 0})
        self.assertIn(b"busy", self.knock("192.0.2.7").taken)
        self.gate.enforce(Lists((pack("192.0.2.7"),), ()))
        self.connect("192.0.2.7")


class Draining(Served):
    def setUp(self) -> None:
        super().setUp()
        self.client = self.connect()

    def drain(self) -> Deferred[None]:
        return self.gate.drain(10)

    def test_nobody_there(self) -> None:
        self.client.lose()
        self.successResultOf(self.drain())
        self.assertNothingTicks()

    def test_idle_connections_are_closed_at_once(self) -> None:
        drained = self.drain()
        self.assertEqual(self.client.codes(), ["shutting_down"])
        self.assertNoResult(drained)
        self.client.lose()
        self.successResultOf(drained)

    def test_over_when_the_last_connection_is(self) -> None:
        other = self.connect()
        drained = self.drain()
        self.client.lose()
        self.assertNoResult(drained)
        other.lose()
        self.successResultOf(drained)

    def test_one_that_lingers_is_told_nothing_more(self) -> None:
        self.solution(self.client)
        self.client.send(b"\x00\x00\x00\x02{}")
        self.drain()
        self.clock.advance(4)
        self.gate.shut()
        self.assertEqual(self.client.codes(), ["malformed"])

    def test_challenge_that_is_out_can_be_redeemed(self) -> None:
        solution = self.solution(self.client)
        self.drain()
        self.assertFalse(self.client.closing)
        self.client.send(wire.frame(solution))
        self.assertEqual(self.client.codes(), ["quote", "shutting_down"])
        self.assertTrue(self.client.closing)

    def test_answer_that_is_awaited_is_given(self) -> None:
        solution = self.solution(self.client)
        answer = self.quotes.answer = Deferred[wire.Quote]()
        self.client.send(wire.frame(solution) + REQUEST)
        self.drain()
        self.assertFalse(self.client.closing)
        answer.callback(QUOTE)
        self.assertEqual(self.client.codes(), ["quote", "shutting_down"])

    def test_each_challenge_that_is_out_can_be_redeemed(self) -> None:
        solutions = [self.solution(self.client) for _ in range(2)]
        self.drain()
        for solution in solutions:
            self.client.send(wire.frame(solution))
        self.assertEqual(self.client.codes(), ["quote", "quote", "shutting_down"])

    def test_no_timer_is_left(self) -> None:
        drained = self.drain()
        self.client.lose()
        self.successResultOf(drained)
        self.assertNothingTicks()

    def test_no_new_exchange_begins(self) -> None:
        self.solution(self.client)
        self.drain()
        self.client.send(REQUEST)
        self.assertEqual(self.client.codes(), ["shutting_down"])
        self.assertIn(b'"code":"shutting_down"', self.knock("192.0.2.8").taken)

    def test_deadline(self) -> None:
        self.solution(self.client)
        self.drain()
        self.clock.advance(9.9)
        self.assertFalse(self.client.closing)
        self.clock.advance(0.2)
        self.assertEqual(self.client.codes(), ["shutting_down"])
        self.clock.advance(5 + TICK)
        self.assertTrue(self.client.transport.aborted)


class Relieved(Served):
    """Another process has taken over, and whoever comes now comes to that one."""

    def setUp(self) -> None:
        super().setUp()
        self.newcomer, self.client = self.connect("192.0.2.8"), self.connect()
        self.client.ask(wire.Request("riches"))
        self.drained = self.gate.drain(10, relieved=True)

    def test_who_said_something_before_is_told(self) -> None:
        self.assertEqual(self.client.codes(), ["shutting_down"])

    def test_who_has_just_come_may_have_one_exchange(self) -> None:
        self.assertEqual(self.newcomer.codes(), [])
        solution = self.solution(self.newcomer)
        self.newcomer.send(wire.frame(solution))
        self.assertEqual(self.newcomer.codes(), ["quote", "shutting_down"])
        self.assertTrue(self.newcomer.closing)

    def test_and_no_other(self) -> None:
        self.solution(self.newcomer)
        self.newcomer.send(REQUEST)
        self.assertEqual(self.newcomer.codes(), ["shutting_down"])

    def test_within_the_time_that_there_is(self) -> None:
        self.clock.advance(10.1)
        self.assertEqual(self.newcomer.codes(), ["shutting_down"])


long_bodies = st.integers(0, 5000).map(lambda length: length.to_bytes(4, "big") + b" " * length)
frames = st.one_of(
    long_bodies,
    st.just(REQUEST),
    st.just(wire.frame(wire.Solution("A" * 98, [0, 0]))),
    st.just(wire.frame(wire.Request("riches"))),
    st.binary(max_size=50).map(lambda body: len(body).to_bytes(4, "big") + body),
    st.binary(max_size=50),
)


class AnyBytes(Served):
    """No bytes at all, in whatever pieces they arrive, do the server harm."""

    def answers(self, data: bytes, cuts: list[int]) -> list[tuple[str, str | None]]:
        """What is said to the data, cut at these places."""
        client = self.connect()
        places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
        for start, end in pairwise(places):
            if not client.closing:
                client.send(data[start:end])
                self.clock.advance(0)
            if not client.closing:
                self.assertLessEqual(len(client.protocol._unprocessed), 4 + 4096)
        heard = [(message["type"], message.get("code")) for message in client.hear()]
        client.lose()
        self.assertNotIn(("error", "internal"), heard)
        self.assertNothingTicks()
        self.gate = self.make_gate()
        return heard

    @given(st.lists(frames, max_size=6).map(b"".join), st.lists(st.integers(0), max_size=20))
    def test_split_and_joined_deliveries_give_the_same_answers(
        self, data: bytes, cuts: list[int]
    ) -> None:
        whole = self.answers(data, [])
        self.assertEqual(self.answers(data, cuts), whole)
        self.assertEqual(self.answers(data, list(range(len(data)))), whole)

    @given(st.lists(frames, max_size=6))
    def test_each_frame_is_answered_once(self, sent: list[bytes]) -> None:
        heard = self.answers(b"".join(sent), [])
        for type_, code in heard[:-1]:
            # All but the last answer left the connection open.
            self.assertTrue(code is None or not errors.BY_CODE[code].closes, (type_, code))

    @given(st.lists(st.sampled_from(["request", "riches", "solve", "replay"]), max_size=10))
    def test_well_formed_frames_get_exactly_one_answer_each(self, steps: list[str]) -> None:
        client, expected = self.connect(), []
        solution: wire.Solution | None = None
        for step in steps:
            if step in ("request", "riches") or solution is None:
                resource = "riches" if step == "riches" else "quote"
                answer = client.ask(wire.Request(resource))
                if answer["type"] == "challenge":
                    solution = wire.Solution(answer["challenge"], [0, 0])
                expected.append(answer)
            else:
                expected.append(client.ask(solution))
            if client.closing:
                self.assertEqual(expected[-1]["code"], "replayed")
                break
        client.lose()
        self.gate = self.make_gate()
