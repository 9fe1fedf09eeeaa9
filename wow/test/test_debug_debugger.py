"""A process answers one thing at a time that takes its time, and stops when nobody waits for it."""

from __future__ import annotations

import io
import json
import signal
import tracemalloc
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from wow.debug.debugger import Debugger
from wow.debug.query import PAGES, Answer, Query
from wow.logs import make_logger
from wow.test.test_debug_state import Reactor

STILL = (0, 0)


class Asked(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.logged = io.StringIO()
        log = make_logger(self.logged, "info", "json")
        self.debugger = Debugger(self.reactor, (), log, self.at_once)

    def at_once(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return succeed(function(*arguments))

    def ask(self, page: str, seconds: float = 4, form: str = "text") -> Deferred[Answer]:
        return self.debugger.answer(Query(page, seconds, form))

    def answered(self, asked: Deferred[Answer]) -> tuple[int, str]:
        answer = self.successResultOf(asked)
        return answer.status, answer.body.decode()

    def leave(self, asked: Deferred[Answer]) -> None:
        asked.cancel()
        self.failureResultOf(asked, CancelledError)

    def sampling(self) -> bool:
        return signal.getitimer(signal.ITIMER_PROF) != STILL

    def test_at_once(self) -> None:
        for page in ("threads", "reactor", "gc"):
            self.assertEqual(self.answered(self.ask(page))[0], 200)

    def test_profile_takes_its_time(self) -> None:
        asked = self.ask("profile")
        self.assertTrue(self.sampling())
        self.reactor.advance(3.9)
        self.assertNoResult(asked)
        self.reactor.advance(0.1)
        self.assertFalse(self.sampling())
        status, said = self.answered(asked)
        self.assertEqual(status, 200)
        self.assertIn("ms of CPU time in", said)

    def test_formats(self) -> None:
        kinds = {
            "text": "text/plain; charset=utf-8",
            "html": "text/html; charset=utf-8",
            "speedscope": "application/json",
            "pprof": "application/octet-stream",
        }
        for form, kind in kinds.items():
            asked = self.ask("profile", form=form)
            self.reactor.advance(4)
            answer = self.successResultOf(asked)
            self.assertEqual((answer.status, answer.content_type), (200, kind))

    def test_heap_takes_its_time(self) -> None:
        asked = self.ask("heap")
        kept = []
        for _ in range(4):
            self.assertTrue(tracemalloc.is_tracing())
            kept.append(bytearray(100_000))
            self.reactor.advance(1)
        self.assertFalse(tracemalloc.is_tracing())
        self.assertIn(__file__, self.answered(asked)[1])

    def test_one_at_a_time(self) -> None:
        asked = self.ask("profile")
        for page in ("profile", "heap"):
            status, said = self.answered(self.ask(page))
            self.assertEqual(status, 409)
            self.assertIn("a profile of 4 seconds runs here", said)
        self.assertEqual(self.answered(self.ask("gc"))[0], 200)
        self.reactor.advance(4)
        self.assertEqual(self.answered(asked)[0], 200)
        self.leave(self.ask("heap"))

    def test_stops_when_nobody_waits(self) -> None:
        for page in ("profile", "heap"):
            for passed in (0, 3):
                asked = self.ask(page)
                self.reactor.advance(passed)
                self.leave(asked)
                self.assertFalse(self.sampling() or tracemalloc.is_tracing())
                self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_heap_leaves_alone_what_others_trace(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        status, said = self.answered(self.ask("heap"))
        self.assertEqual(status, 409)
        self.assertIn("PYTHONTRACEMALLOC", said)
        self.assertTrue(tracemalloc.is_tracing())
        self.leave(self.ask("profile"))

    def test_what_is_not_installed_is_named(self) -> None:
        with mock.patch("wow.debug.debugger.find_spec", return_value=None):
            for form in ("html", "speedscope"):
                status, said = self.answered(self.ask("profile", form=form))
                self.assertEqual(status, 501)
                self.assertIn("pip install 'wow[debug]'", said)
                self.assertFalse(self.sampling())
            for form in ("text", "pprof"):
                asked = self.ask("profile", form=form)
                self.reactor.advance(4)
                self.assertEqual(self.successResultOf(asked).status, 200)

    def test_all_pages_are_known(self) -> None:
        for page in PAGES:
            asked = self.ask(page, 1)
            self.reactor.pump([0.5, 0.5])
            self.assertEqual(self.successResultOf(asked).status, 200)

    def test_is_logged(self) -> None:
        self.leave(self.ask("profile"))
        event = json.loads(self.logged.getvalue())
        self.assertEqual((event["event"], event["page"], event["seconds"]), ("debug", "profile", 4))
