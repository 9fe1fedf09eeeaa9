"""
Logging: one line an event, for a person or for a machine.

The events of Twisted and of wow go the same way. What a stranger sent is cut
and escaped, so that it can neither flood a line nor forge another.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

LONGEST_VALUE = 500
"""Characters of one value in a log line, a traceback excepted."""

_LONGEST_TRACEBACK = 20_000

_LEVELS: Mapping[Any, int] = {
    LogLevel.debug: logging.DEBUG,
    LogLevel.info: logging.INFO,
    LogLevel.warn: logging.WARNING,
    LogLevel.error: logging.ERROR,
    LogLevel.critical: logging.CRITICAL,
}

_REPETITIVE = "twisted.application._client_service"
"""Says that it tries again for as long as a server is away; that it is, others say once."""


class LogFile:
    """
    What a log is written to, on whose failures nothing depends: a full disk
    costs lines, not clients. It is what structlog calls a logger, without the
    lock of its own: a signal may be handled, and logged, in the middle of a
    line, and would wait for that lock for ever.
    """

    def __init__(self, file: Any) -> None:
        """
        @param file: a text stream, or a file of Twisted's with its own rotation.
        """
        self._file = file
        self._lines: deque[str] = deque()
        self._writing = False

    def isatty(self) -> bool:
        """Whether a person reads it as it is written."""
        isatty = getattr(self._file, "isatty", None)
        return isatty is not None and isatty()

    def msg(self, line: str) -> None:
        """Write a line, or lose it; after the one that is being written, if any."""
        self._lines.append(line)
        if not self._writing:
            self._writing = True
            try:
                self._write_all()
            finally:
                self._writing = False

    debug = info = warning = error = critical = msg

    def _write_all(self) -> None:
        while self._lines:
            with contextlib.suppress(OSError):
                self._file.write(self._lines.popleft() + "\n")
                self._file.flush()


def make_logger(stream: Any, level: str, layout: str) -> FilteringBoundLogger:
    """
    Make the logger that is handed to every part of a server.

    @param stream: a L{LogFile}, perhaps others' too, or what one is to write to.
    @param level: C{debug}, C{info}, C{warning} or C{error}; what is below is dropped.
    @param layout: C{json}, C{console}, or C{auto}: console if the file is a terminal.
    """
    file = stream if isinstance(stream, LogFile) else LogFile(stream)
    colors = file.isatty()
    console = layout == "console" or (layout == "auto" and colors)
    logger = structlog.wrap_logger(
        file,
        processors=[
            # What the lines of an exchange that is traced have in common.
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _format_failure,
            _tame,
            _render_for_person(colors) if console else structlog.processors.JSONRenderer(),
        ],
        # One of its own, whose level can be set; see L{set_level}.
        wrapper_class=type("Logger", (structlog.make_filtering_bound_logger(level),), {}),
        cache_logger_on_first_use=True,
    )
    return cast(FilteringBoundLogger, logger.bind())


def set_level(log: FilteringBoundLogger, level: str) -> None:
    """
    Drop other lines from now on, of this logger and of all that were made of it.

    @param log: of L{make_logger}'s.
    @param level: as there.
    """
    # What it drops is decided when the class is made, so that it costs nothing.
    type(log).__bases__ = (structlog.make_filtering_bound_logger(level),)


def _render_for_person(colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
    )


def _format_failure(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    failure = event.pop("exc_info", None)
    if failure is True:
        failure = Failure()
    if isinstance(failure, Failure):
        event["exception"] = failure.getTraceback().strip()
    return event


def _tame(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str):
            longest = _LONGEST_TRACEBACK if key == "exception" else LONGEST_VALUE
            event[key] = _cut(value if key == "exception" else _escape(value), longest)
        elif not isinstance(value, (int, float, type(None))):
            event[key] = _cut(_escape(repr(value)), LONGEST_VALUE)
    return event


def _escape(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


@implementer(ILogObserver)
class Observer:
    """Passes the events of Twisted on to a logger."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log

    def __call__(self, event: LogEvent) -> None:
        level = _LEVELS.get(event.get("log_level"), logging.INFO)
        namespace = event.get("log_namespace", "-")
        if level == logging.INFO and namespace.startswith(_REPETITIVE):
            level = logging.DEBUG
        self._log.log(
            level,
            formatEvent(event),
            logger=namespace,
            exc_info=event.get("log_failure"),
        )
