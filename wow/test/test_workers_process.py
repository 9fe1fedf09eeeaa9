"""A worker is told what to do, heard, and ended when it does not answer."""

from __future__ import annotations

import io
import json
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wow.debug.query import Query, plain
from wow.logs import make_logger
from wow.workers.control import (
    COMPLAINTS,
    FROM_PARENT,
    LOG,
    ORDERS,
    TO_PARENT,
    Ask,
    Channel,
    Drain,
    Hurry,
    Look,
    LookAway,
    Order,
    PutInForce,
    Ready,
    Report,
    Seen,
    Serve,
    Word,
    frame,
)
from wow.workers.process import Ending, Gone, Worker

BRIEF = b"brief"


class Transport:
    """
    A child process.

    @ivar written: what its parent wrote.
    @ivar signals: those it was sent.
    """

    pid = 4711
    exited = False

    def __init__(self) -> None:
        self.written = b""
        self.signals: list[str] = []

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        assert descriptor == FROM_PARENT
        self.written += data

    def signalProcess(self, name: str) -> None:
        if self.exited:
            raise ProcessExitedAlready
        self.signals.append(name)


class Process(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = Transport()
        self.ready: list[Worker] = []
        self.reports: list[Report] = []
        self.endings: list[Ending] = []
        self.lines: list[str] = []
        self.logged = io.StringIO()
        self.worker = Worker(
            2,
            BRIEF,
            self.clock,
            self.ready.append,
            lambda worker, report: self.reports.append(report),
            lambda worker, ending: self.endings.append(ending),
            self.lines.append,
            make_logger(self.logged, "info", "json"),
        )
        self.worker.makeConnection(self.transport)

    def orders(self) -> list[Order]:
        """What it was told since the last time, beside its brief."""
        data, self.transport.written = self.transport.written, b""
        heard: list[Order] = []
        Channel(ORDERS, heard.append, self.fail).dataReceived(data.removeprefix(BRIEF))
        return heard

    def says(self, word: Word) -> None:
        self.worker.childDataReceived(TO_PARENT, frame(word))

    def become_ready(self) -> None:
        self.orders()
        self.says(Ready())

    def answer(self) -> list[Ask]:
        """Answer all that was asked."""
        asked = [order for order in self.orders() if isinstance(order, Ask)]
        for ask in asked:
            self.says(Report(ask.number, True, {}))
        return asked

    def end(self, reason: Exception | None = None) -> None:
        self.worker.processEnded(Failure(reason or ProcessTerminated(signal=9)))


class Telling(Process):
    def test_the_brief_comes_first(self) -> None:
        self.assertEqual(self.transport.written, BRIEF)

    def test_orders(self) -> None:
        self.worker.serve()
        self.worker.put_in_force(b"settings")
        self.worker.drain(relieved=True, within=5)
        self.worker.hurry()
        expected = [Serve(), PutInForce(b"settings"), Drain(relieved=True), Hurry()]
        self.assertEqual(self.orders(), expected)

    def test_nothing_once_it_does_not_hear(self) -> None:
        self.transport.written = b""
        self.worker.childConnectionLost(FROM_PARENT)
        self.worker.serve()
        self.assertEqual(self.transport.written, b"")


class Asking(Process):
    def test_answer(self) -> None:
        answer = self.worker.ask(metrics=True)
        other = self.worker.ask(metrics=False)
        one, two = self.answer_numbers()
        report = Report(one.number, True, {"ready": True})
        self.says(report)
        self.assertEqual(self.successResultOf(answer), report)
        self.assertNoResult(other)
        self.assertEqual((one.metrics, two.metrics), (True, False))
        self.assertEqual(self.reports, [report])

    def answer_numbers(self) -> list[Ask]:
        return [order for order in self.orders() if isinstance(order, Ask)]

    def test_who_is_gone_does_not_answer(self) -> None:
        answer = self.worker.ask(metrics=True)
        self.end()
        self.failureResultOf(answer, Gone)

    def test_who_looks_sees(self) -> None:
        query = Query("profile", 3, "pprof")
        first, second = self.worker.look(query), self.worker.look(query)
        one, two = self.orders()[-2:]
        assert isinstance(one, Look) and isinstance(two, Look)
        self.assertEqual((one.query, one.number != two.number), (query, True))
        self.says(Seen(two.number, plain("\0 \N{SNOWMAN}")))
        self.assertEqual(self.successResultOf(second), plain("\0 \N{SNOWMAN}"))
        self.assertNoResult(first)
        self.end()
        self.failureResultOf(first, Gone)

    def test_who_looks_away_sees_nothing(self) -> None:
        looked = self.worker.look(Query("heap"))
        (look,) = [order for order in self.orders() if isinstance(order, Look)]
        looked.cancel()
        self.failureResultOf(looked, CancelledError)
        self.assertEqual(self.orders(), [LookAway(look.number)])
        self.says(Seen(look.number, plain("late")))
        self.end()

    def test_looking_for_long_is_no_silence(self) -> None:
        self.become_ready()
        self.worker.look(Query("profile", 60)).addErrback(lambda gone: gone.trap(Gone))
        for _ in range(60):
            self.clock.advance(1)
            self.answer()
        self.assertEqual(self.transport.signals, [])

    def test_last_words_are_heard(self) -> None:
        words = Report(0, False, {}, [])
        self.says(words)
        self.assertEqual(self.reports, [words])


class Watching(Process):
    def test_who_answers_lives(self) -> None:
        self.become_ready()
        for _ in range(100):
            self.clock.advance(1)
            self.assertEqual(len(self.answer()), 1)
        self.assertEqual(self.transport.signals, [])

    def test_who_does_not_is_ended(self) -> None:
        self.become_ready()
        self.clock.pump([1] * 5)
        self.assertEqual(self.transport.signals, [])
        self.clock.advance(1)
        self.assertEqual(self.transport.signals, ["KILL"])
        self.end()
        self.assertEqual(self.endings[0].cause, "silent")

    def test_who_is_late_lives(self) -> None:
        self.become_ready()
        for _ in range(10):
            self.clock.pump([1] * 4)
            self.answer()
        self.assertEqual(self.transport.signals, [])

    def test_a_parent_who_was_stopped_blames_nobody(self) -> None:
        self.become_ready()
        self.clock.advance(1)
        self.clock.advance(1000)
        self.answer()
        self.clock.advance(1)
        self.assertEqual(self.transport.signals, [])

    def test_metrics_are_asked_for_now_and_then(self) -> None:
        self.become_ready()
        asked: list[Ask] = []
        for _ in range(50):
            self.clock.advance(1)
            asked += self.answer()
        self.assertEqual(sum(ask.metrics for ask in asked), 10)

    def test_who_is_never_ready_is_ended(self) -> None:
        self.clock.advance(59)
        self.assertEqual(self.transport.signals, [])
        self.clock.advance(1)
        self.assertEqual(self.transport.signals, ["KILL"])
        self.end()
        self.assertEqual(self.endings[0].cause, "late")

    def test_who_is_ready_has_no_end_set(self) -> None:
        self.become_ready()
        self.assertEqual(self.ready, [self.worker])
        for _ in range(70):
            self.clock.advance(1)
            self.answer()
        self.assertEqual(self.transport.signals, [])

    def test_who_does_not_finish_in_time_is_ended(self) -> None:
        self.become_ready()
        self.worker.drain(relieved=False, within=3)
        for _ in range(3):
            self.assertEqual(self.transport.signals, [])
            self.clock.advance(1)
            self.answer()
        self.assertEqual(self.transport.signals, ["KILL"])

    def test_who_talks_nonsense_is_ended(self) -> None:
        self.worker.childDataReceived(TO_PARENT, b"\xff" * 8)
        self.assertEqual(self.transport.signals, ["KILL"])
        self.end()
        self.assertIn("too long", self.endings[0].text)

    def test_what_it_was_ended_for_first_is_told(self) -> None:
        self.worker.kill("late", "was late")
        self.worker.childDataReceived(TO_PARENT, b"\xff" * 8)
        self.end()
        self.assertEqual(self.endings, [Ending("late", "was late")])

    def test_who_is_gone_already_is_left_alone(self) -> None:
        self.transport.exited = True
        self.worker.kill("late", "was late")
        self.assertEqual(self.transport.signals, [])


class End(Process):
    def test_is_told_once_with_its_reason(self) -> None:
        self.become_ready()
        self.end(ProcessTerminated(exitCode=3))
        (ending,) = self.endings
        self.assertEqual(ending.cause, "died")
        self.assertIn("exit code 3", ending.text)

    def test_nothing_is_left(self) -> None:
        self.become_ready()
        self.worker.drain(relieved=False, within=3)
        self.end()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Logging(Process):
    def test_its_lines_are_passed_on(self) -> None:
        self.worker.childDataReceived(LOG, b'{"event": "a"}\n{"eve')
        self.worker.childDataReceived(LOG, b'nt": "b"}\n')
        self.assertEqual(self.lines, ['{"event": "a"}', '{"event": "b"}'])

    def test_what_python_says_is_logged(self) -> None:
        self.worker.childDataReceived(COMPLAINTS, b"Traceback")
        self.end()
        event: dict[str, Any] = json.loads(self.logged.getvalue())
        self.assertEqual((event["worker"], event["text"]), (2, "Traceback"))
