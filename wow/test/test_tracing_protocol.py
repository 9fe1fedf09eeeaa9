"""A traced connection does what any other does; and each exchange on it has its spans."""

from __future__ import annotations

import json
import logging.handlers
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from wow import errors, wire
from wow.pow.resource import IProtectedResource
from wow.pow.spent import ISpentStore
from wow.server import GateProtocol
from wow.test import test_server
from wow.test.spans import Spans, told
from wow.test.test_server import QUOTE, Conversation, Served
from wow.test.test_wire import CONTEXT
from wow.tracing import stages
from wow.tracing.choice import Choice
from wow.tracing.protocol import TracedProtocol

WHOLE = ["issue", "solve", "check", "prepare", "spend", "send"]


class Traced(Served):
    """Every exchange is traced, unless C{chance} says otherwise."""

    chance = 0.0

    def setUp(self) -> None:
        self.spans = Spans()
        self.complaints = logging.handlers.BufferingHandler(1000)
        logging.getLogger("opentelemetry").addHandler(self.complaints)
        # Runs last, when all connections are lost.
        self.addCleanup(self.check_all_ended)
        choice = Choice(
            self.spans.tracer(),
            0.5,
            (),
            (24, 48),
            lambda: self.chance,
            lambda: round(self.clock.seconds() * 10**9),
        )
        self.make_protocol = partial(TracedProtocol, choice)
        super().setUp()

    def check_all_ended(self) -> None:
        self.assertEqual(len(self.spans.ended), len(self.spans.begun))
        logging.getLogger("opentelemetry").removeHandler(self.complaints)
        self.assertEqual([record.getMessage() for record in self.complaints.buffer], [])

    def logged_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.logged.getvalue().splitlines()]

    def one(self) -> ReadableSpan:
        (whole,) = self.spans.wholes()
        return whole


# What is promised of any connection holds for one that is traced.


class TracedExchanges(Traced, test_server.Exchanges):
    pass


class TracedRefusals(Traced, test_server.Refusals):
    pass


class TracedDeadlines(Traced, test_server.Deadlines):
    pass


class TracedOrder(Traced, test_server.Order):
    pass


class TracedWriting(Traced, test_server.Writing):
    pass


class TracedCrowds(Traced, test_server.Crowds):
    pass


class TracedFaults(Traced, test_server.Faults):
    pass


class TracedTurns(Traced, test_server.TakingTurns):
    pass


class TracedDraining(Traced, test_server.Draining):
    pass


class TracedBytes(Traced, test_server.AnyBytes):
    pass


class AnExchange(Traced):
    def test_stages(self) -> None:
        client = self.connect()
        client.ask(self.solution(client))
        self.assertEqual(self.spans.outline(), [("served", WHOLE)])

    def test_each_stage_ends_where_the_next_begins(self) -> None:
        client = self.connect()
        self.clock.advance(1)
        solution = self.solution(client)
        self.clock.advance(20)
        self.quotes.answer = Deferred()
        client.send(wire.frame(solution))
        self.clock.advance(3)
        self.quotes.answer.callback(QUOTE)
        times = [(span.start_time, span.end_time) for span in self.spans.stages(self.one())]
        began = 1_700_000_001 * 10**9
        asked, answered = began + 20 * 10**9, began + 23 * 10**9
        self.assertEqual(
            times,
            [
                (began, began),
                (began, asked),
                (asked, asked),
                (asked, answered),
                (answered, answered),
                (answered, answered),
            ],
        )
        self.assertEqual((self.one().start_time, self.one().end_time), (began, answered))

    def test_several_on_one_connection(self) -> None:
        client = self.connect()
        for _ in range(3):
            client.ask(self.solution(client))
        self.assertEqual(self.spans.outline(), [("served", WHOLE)] * 3)
        self.assertEqual(len({span.context.trace_id for span in self.spans.ended}), 3)

    def test_what_is_told(self) -> None:
        client = self.connect("192.0.2.7")
        client.ask(self.solution(client))
        self.assertEqual(
            told(self.one()),
            {
                "network.protocol.name": "wow",
                "network.transport": "tcp",
                "client.address": "192.0.2.0",
                "wow.resource": "quote",
                "wow.effort": 2,
                "wow.outcome": "served",
            },
        )
        for span in self.spans.stages(self.one()):
            self.assertEqual(told(span), {})

    def test_unix_socket(self) -> None:
        client = Conversation(self.gate, UNIXAddress("/run/wow.sock"))
        self.addCleanup(client.lose)
        client.ask(self.solution(client))
        self.assertEqual(told(self.one())["network.transport"], "unix")
        self.assertNotIn("client.address", told(self.one()))

    def test_nothing_secret_is_told(self) -> None:
        client = self.connect("192.0.2.7")
        challenge = client.ask(wire.Request("quote", CONTEXT))["challenge"]
        client.ask(wire.Solution(challenge, [8675309, 2**53 - 1]))
        everything = "".join(span.to_json() for span in self.spans.ended)
        for secret in (challenge, "8675309", str(2**53 - 1), "192.0.2.7", QUOTE.text):
            self.assertNotIn(secret, everything)

    def test_not_chosen(self) -> None:
        self.chance = 0.5
        client = self.connect()
        self.assertEqual(client.ask(self.solution(client))["type"], "quote")
        client.ask(wire.Request("riches"))
        self.assertEqual(self.spans.begun, [])

    def test_one_that_was_not_chosen_has_no_second_chance(self) -> None:
        self.chance = 0.5
        client = self.connect()
        solution = self.solution(client)
        self.chance = 0.0
        client.ask(solution)
        self.assertEqual(self.spans.begun, [])

    def test_solution_on_another_connection(self) -> None:
        first = self.connect()
        solution = self.solution(first)
        self.connect().ask(solution)
        first.lose()
        self.assertEqual(self.spans.outline(), [("served", WHOLE[2:]), ("abandoned", WHOLE[:2])])


class WhatIsRefused(Traced):
    def check(self, code: str, *stages: str) -> None:
        *_, whole = self.spans.wholes()
        self.assertEqual(told(whole)["wow.outcome"], "refused")
        spans = self.spans.stages(whole)
        self.assertEqual([span.name for span in spans], list(stages))
        for span in (whole, spans[-1]):
            self.assertEqual(told(span)["error.type"], code)
            self.assertEqual(span.status.status_code, StatusCode.ERROR)
            self.assertEqual(span.status.description, code)
        for span in spans[:-1]:
            self.assertEqual(span.status.status_code, StatusCode.UNSET)
            self.assertEqual(told(span), {})

    def test_request(self) -> None:
        client = self.connect()
        client.ask(wire.Request("riches"))
        self.check("unknown_resource", "issue")
        # What a stranger makes up is no name of anything.
        self.assertNotIn("wow.resource", told(self.one()))

    def test_token(self) -> None:
        self.connect().ask(wire.Solution("x" * 100, [0, 0]))
        self.check("invalid_challenge", "check")

    def test_work(self) -> None:
        client = self.connect()
        solution = self.solution(client)
        client.ask(wire.Solution(solution.challenge, [0]))
        self.check("insufficient_work", *WHOLE[:3])

    def test_resource(self) -> None:
        client = self.connect()
        solution = self.solution(client)
        self.quotes.answer = Deferred()
        client.send(wire.frame(solution))
        self.quotes.answer.errback(errors.Unavailable())
        self.check("unavailable", *WHOLE[:4])

    def test_spent(self) -> None:
        client = self.connect()
        solution = self.solution(client)
        client.ask(solution)
        client.ask(solution)
        self.check("replayed", *WHOLE[2:5])

    def test_fault_of_ours(self) -> None:
        client = self.connect()
        self.quotes.answer = Deferred()
        client.send(wire.frame(self.solution(client)))
        self.quotes.answer.errback(Failure(ZeroDivisionError("secret")))
        self.check("internal", *WHOLE[:4])
        self.assertNotIn("secret", "".join(span.to_json() for span in self.spans.ended))

    def test_too_late(self) -> None:
        client = self.connect()
        self.solution(client)
        self.clock.advance(66)
        self.check("timeout", "issue", "solve")

    def test_rubbish_in_the_middle(self) -> None:
        client = self.connect()
        self.solution(client)
        client.send(b"\0\0\0\1x")
        self.check("malformed", "issue", "solve")

    def test_shutting_down(self) -> None:
        client = self.connect()
        self.quotes.answer = Deferred()
        client.send(wire.frame(self.solution(client)))
        self.gate.shut()
        self.check("shutting_down", *WHOLE[:4])
        self.quotes.answer.callback(QUOTE)
        self.assertEqual(len(self.spans.wholes()), 1)

    def test_what_is_no_exchange(self) -> None:
        self.connect().send(b"\0\0\0\1x")
        self.connect().send(b"\xff\xff\xff\xff")
        self.assertEqual(self.spans.begun, [])


class WhatIsAbandoned(Traced):
    def test_client_leaves(self) -> None:
        client = self.connect()
        self.solution(client)
        client.lose()
        self.assertEqual(self.spans.outline(), [("abandoned", WHOLE[:2])])
        self.assertEqual(self.one().status.status_code, StatusCode.UNSET)

    def test_client_leaves_while_it_is_answered(self) -> None:
        client = self.connect()
        self.quotes.answer = Deferred()
        client.send(wire.frame(self.solution(client)))
        client.lose()
        self.quotes.answer.callback(QUOTE)
        self.assertEqual(self.spans.outline(), [("abandoned", WHOLE[:4])])

    def test_client_asks_for_another(self) -> None:
        client = self.connect()
        first = self.solution(client)
        client.ask(self.solution(client))
        self.assertEqual(self.spans.outline(), [("abandoned", WHOLE[:2]), ("served", WHOLE)])
        # Which is the end of what is followed, not of what is good.
        self.assertEqual(client.ask(first)["type"], "quote")
        self.assertEqual(len(self.spans.wholes()), 2)

    def test_client_hands_in_another(self) -> None:
        earlier = self.solution()
        client = self.connect()
        self.solution(client)
        self.assertEqual(client.ask(earlier)["type"], "quote")
        self.assertEqual(self.spans.outline(), [("abandoned", WHOLE[:2])])

    def test_reset(self) -> None:
        client = self.connect()
        self.quotes.answer = Deferred()
        client.send(wire.frame(self.solution(client)))
        client.protocol.hang_up()
        self.quotes.answer.callback(QUOTE)
        client.lose()
        self.assertEqual(self.spans.outline(), [("abandoned", WHOLE[:5])])

    def test_reset_before_it_is_refused(self) -> None:
        client = self.connect()
        self.quotes.answer = Deferred()
        client.send(wire.frame(self.solution(client)))
        client.protocol.hang_up()
        self.quotes.answer.errback(errors.Unavailable())
        client.lose()
        self.assertEqual(self.spans.outline(), [("abandoned", WHOLE[:4])])

    def test_connection_is_lost_as_it_is_answered(self) -> None:
        for message in (wire.Request(), self.solution()):
            client = self.connect()
            with patch.object(client.transport, "writeSomeData", lambda _, it=client: it.lose()):
                client.send(wire.frame(message))
        self.assertEqual(
            self.spans.outline()[-2:], [("abandoned", WHOLE[:1]), ("served", WHOLE[2:])]
        )


class LogLines(Traced):
    def trace_ids(self, event: str) -> list[str | None]:
        return [line.get("trace_id") for line in self.logged_lines() if line["event"] == event]

    def test_refusal(self) -> None:
        client = self.connect()
        client.ask(wire.Request("riches"))
        client.send(b"\0\0\0\1x")
        number = f"{self.one().context.trace_id:032x}"
        self.assertEqual(self.trace_ids("refused"), [number, None])

    def test_fault(self) -> None:
        client = self.connect()
        solution = self.solution(client)
        self.quotes.answer = Deferred()
        client.send(wire.frame(solution))
        self.quotes.answer.errback(Failure(ZeroDivisionError()))
        number = f"{self.one().context.trace_id:032x}"
        self.assertEqual(self.trace_ids("internal_error"), [number])
        self.assertEqual(self.trace_ids("refused"), [number])
        self.flushLoggedErrors(ZeroDivisionError)

    def test_what_the_parts_say(self) -> None:
        """Lines of the store and the resource, too, while they are asked."""
        log = self.gate.log
        self.quotes.prepare = lambda _: log.info("prepared") or QUOTE  # type: ignore
        client = self.connect()
        client.ask(self.solution(client))
        log.info("later")
        self.assertEqual(self.trace_ids("prepared"), [f"{self.one().context.trace_id:032x}"])
        self.assertEqual(self.trace_ids("later"), [None])


class Watchers(Traced):
    """What stands in for the resource and the store is what they are."""

    def test_interfaces(self) -> None:
        entered: list[str] = []
        verifyObject(IProtectedResource, stages._Resource(entered.append, self.quotes))
        store = stages._Store(entered.append, self.spent)
        verifyObject(ISpentStore, store)
        self.assertEqual(store.mark, self.spent.mark)

    def test_they_leave_when_it_is_over(self) -> None:
        """Or what is changed in the service would not reach this connection."""
        client = self.connect()
        client.ask(self.solution(client))
        self.assertIs(client.protocol._proof_of_work, self.gate.proof_of_work)

    def test_nobody_else_is_watched(self) -> None:
        """A connection next to one that is being answered."""
        self.quotes.answer = Deferred()
        client = self.connect()
        client.send(wire.frame(self.solution(client)))
        self.chance = 0.5
        self.quotes.answer, answer = QUOTE, self.quotes.answer
        other = self.connect()
        self.assertEqual(other.ask(self.solution(other))["type"], "quote")
        answer.callback(QUOTE)
        self.assertEqual(self.spans.outline(), [("served", WHOLE)])


class Course:
    """
    What two clients do, step by step.

    @ivar answers: what they heard.
    """

    def __init__(self, connect: Callable[[], Conversation]) -> None:
        self._connect = connect
        self._clients = [connect(), connect()]
        self._solved: list[wire.Solution] = []
        self._spent: list[wire.Solution] = []
        self.answers: list[str] = []

    def take(self, step: str, index: int) -> None:
        client = self._clients[index]
        if step == "leave" or client.closing:
            client.lose()
            self._clients[index] = self._connect()
        else:
            getattr(self, f"_{step}")(client)
            self.answers += client.codes()

    def _ask(self, client: Conversation) -> None:
        challenge = client.ask(wire.Request("quote", CONTEXT))
        self._solved.append(wire.Solution(challenge["challenge"], [0, 0]))

    def _ask_for_riches(self, client: Conversation) -> None:
        client.send(wire.frame(wire.Request("riches")))

    def _solve(self, client: Conversation) -> None:
        if self._solved:
            self._spent.append(self._solved.pop())
            self._replay(client)

    def _cheat(self, client: Conversation) -> None:
        for solution in self._solved[-1:]:
            client.send(wire.frame(wire.Solution(solution.challenge, [0])))

    def _replay(self, client: Conversation) -> None:
        for solution in self._spent[-1:]:
            client.send(wire.frame(solution))

    def _rubbish(self, client: Conversation) -> None:
        client.send(b"\0\0\0\1x")

    def end(self) -> None:
        for client in self._clients:
            client.lose()


STEPS = ["ask", "ask_for_riches", "solve", "cheat", "replay", "rubbish", "leave"]


class AnyCourse(Traced):
    """Whatever clients do, in whatever order, and whichever of it is traced."""

    @given(
        st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 1), st.booleans()), max_size=20)
    )
    def test_answers_are_the_same_and_spans_end(self, steps: list[tuple[str, int, bool]]) -> None:
        # Numbers of spans are made by chance, which is not itself in such a test.
        self.spans.clear()
        traced = self.answers(steps)
        self.check_all_ended()
        for whole in self.spans.wholes():
            names = [span.name for span in self.spans.stages(whole)]
            self.assertIn(names, [WHOLE[a:b] for a in (0, 2) for b in range(a + 1, 7)])
        with patch.object(self, "make_protocol", GateProtocol):
            self.gate = self.make_gate()
        self.assertEqual(traced, self.answers(steps))
        self.gate = self.make_gate()

    def answers(self, steps: list[tuple[str, int, bool]]) -> list[str]:
        course = Course(self.connect)
        for step, index, chosen in steps:
            self.chance = 0.0 if chosen else 0.5
            course.take(step, index)
        course.end()
        return course.answers
