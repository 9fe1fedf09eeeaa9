"""One line an event, whatever is in it; Twisted's events go the same way."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.application.internet import ClientService
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wow.logs import LONGEST_VALUE, Observer, make_logger, set_level


class Interrupted(io.StringIO):
    """A file in the middle of whose first line a signal is handled."""

    interrupt: Callable[[], None] = staticmethod(lambda: None)

    def write(self, text: str) -> int:
        interrupt, self.interrupt = self.interrupt, lambda: None
        written = super().write(text[:5])
        interrupt()
        return written + super().write(text[5:])


class Logged(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = io.StringIO()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.getvalue().splitlines()]


class JsonLines(Logged):
    def test_event(self) -> None:
        make_logger(self.file, "info", "json").info("listening", port=7777, host=None)
        (line,) = self.lines()
        self.assertEqual(line["event"], "listening")
        self.assertEqual(line["level"], "info")
        self.assertEqual((line["port"], line["host"]), (7777, None))
        self.assertTrue(line["timestamp"].endswith("Z"))

    def test_level(self) -> None:
        log = make_logger(self.file, "warning", "json")
        log.info("dropped")
        log.warning("kept")
        self.assertEqual([line["event"] for line in self.lines()], ["kept"])

    def test_level_that_is_set_later(self) -> None:
        log = make_logger(self.file, "warning", "json")
        bound, other = log.bind(worker=1), make_logger(self.file, "warning", "json")
        bound.info("dropped")
        set_level(log, "debug")
        for each in (log, bound, other):
            each.debug("kept")
        self.assertEqual([line.get("worker") for line in self.lines()], [None, 1])
        set_level(bound, "error")
        log.warning("dropped")
        self.assertEqual(len(self.lines()), 2)

    def test_signal_that_is_logged_in_the_middle_of_a_line(self) -> None:
        file = Interrupted()
        log = make_logger(file, "info", "json")
        file.interrupt = lambda: log.info("interrupted")
        log.info("first")
        self.assertEqual(
            [json.loads(line)["event"] for line in file.getvalue().splitlines()],
            ["first", "interrupted"],
        )

    def test_failure_is_in_the_same_line(self) -> None:
        make_logger(self.file, "info", "json").error(
            "broken", exc_info=Failure(ZeroDivisionError("x"))
        )
        (line,) = self.lines()
        self.assertIn("ZeroDivisionError", line["exception"])

    def test_exception_under_way(self) -> None:
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            make_logger(self.file, "info", "json").error("broken", exc_info=True)
        (line,) = self.lines()
        self.assertIn("ZeroDivisionError", line["exception"])

    def test_long_values_are_cut(self) -> None:
        make_logger(self.file, "info", "json").info("x", value="y" * 10**6, list=["z"] * 10**5)
        self.assertLess(len(self.file.getvalue()), 3 * LONGEST_VALUE)

    @given(st.text(), st.binary())
    def test_any_input_is_one_line(self, text: str, data: bytes) -> None:
        self.file = io.StringIO()
        make_logger(self.file, "info", "json").info("input", text=text, data=data)
        self.assertEqual(self.file.getvalue().count("\n"), 1)
        self.assertTrue(self.file.getvalue().rstrip("\n").isprintable())


class ConsoleLines(Logged):
    def test_event(self) -> None:
        make_logger(self.file, "info", "console").info("listening", port=7777)
        self.assertIn("listening", self.file.getvalue())
        self.assertIn("port=7777", self.file.getvalue())

    @given(st.text())
    def test_no_input_forges_a_line_or_an_escape(self, text: str) -> None:
        self.file = io.StringIO()
        make_logger(self.file, "info", "console").info(
            "input", text=text + "\n\x1b[31mforged\u202e"
        )
        self.assertEqual(self.file.getvalue().count("\n"), 1)
        self.assertTrue(self.file.getvalue().rstrip("\n").isprintable())

    def test_auto_is_json_where_no_person_looks(self) -> None:
        make_logger(self.file, "info", "auto").info("x")
        self.assertEqual(len(self.lines()), 1)


class TwistedEvents(Logged):
    def setUp(self) -> None:
        super().setUp()
        observer = Observer(make_logger(self.file, "info", "json"))
        self.log = Logger("some.module", observer=LogPublisher(observer))

    def test_levels_and_names(self) -> None:
        self.log.warn("three is {three}", three=3)
        self.log.debug("dropped")
        (line,) = self.lines()
        self.assertEqual(line["event"], "three is 3")
        self.assertEqual((line["level"], line["logger"]), ("warning", "some.module"))

    def test_failure(self) -> None:
        self.log.failure("broken", Failure(ZeroDivisionError("x")))
        (line,) = self.lines()
        self.assertEqual(line["level"], "critical")
        self.assertIn("ZeroDivisionError", line["exception"])
        self.assertNotIn("exc_info", line)

    def test_no_failure_no_field(self) -> None:
        self.log.info("well")
        self.assertNotIn("exception", self.lines()[0])

    def test_attempts_to_connect_without_end_are_details(self) -> None:
        self.log.namespace = f"{ClientService.__module__}.{ClientService.__name__}"
        self.log.info("Scheduling retry 17 to connect in 0.7 seconds.")
        self.log.warn("worse")
        self.assertEqual([line["event"] for line in self.lines()], ["worse"])

    def test_braces_in_what_strangers_send(self) -> None:
        self.log.info("{text}", text="{boom} \n {0.__class__}")
        self.assertIn("boom", self.lines()[0]["event"])
