"""What an operator asks of a process, and the answer: as they travel to workers and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

TIMED = ("profile", "heap")
"""Pages that take their time."""

PAGES = (*TIMED, "threads", "reactor", "gc")

FORMATS = ("text", "html", "speedscope", "pprof")
"""Of a profile."""

LONGEST = 60
"""Seconds."""


class BadQuery(ValueError):
    """It cannot be asked. The message says why."""


class Query(Struct, frozen=True):
    """
    A question to a process.

    @ivar seconds: that it may take; for pages that take their time.
    """

    page: str
    seconds: float = 10.0
    format: str = "text"


class Answer(Struct, frozen=True):
    """
    What becomes of it.

    @ivar status: of HTTP.
    """

    status: int
    content_type: str
    body: bytes


def plain(text: str, status: int = 200) -> Answer:
    """An answer that is text."""
    return Answer(status, "text/plain; charset=utf-8", text.encode())


def read(page: str, arguments: Mapping[bytes, Sequence[bytes]]) -> tuple[Query, int | None]:
    """
    Read a query.

    @param page: one of C{PAGES}.
    @param arguments: by name, as they stand in the URL.
    @return: with it, the number of the worker that is asked, if one is.
    @raise BadQuery: if something of it is not known, or out of bounds.
    """
    known = {"profile": {"seconds", "format"}, "heap": {"seconds"}}.get(page, set()) | {"worker"}
    given: dict[str, str] = {}
    for raw, values in arguments.items():
        name = raw.decode("ascii", "backslashreplace")
        if name not in known:
            raise BadQuery(f"{name} is unknown here; there is {', '.join(sorted(known))}")
        if len(values) > 1:
            raise BadQuery(f"{name} stands there twice")
        given[name] = values[0].decode("ascii", "backslashreplace")
    defaults = Query(page)
    return Query(
        page, _seconds(given.get("seconds")) or defaults.seconds, _format(given.get("format"))
    ), _worker(given.get("worker"))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds <= LONGEST:
        raise BadQuery(f"seconds must be a number from 1 to {LONGEST}")
    return seconds


def _format(text: str | None) -> str:
    if text is None:
        return FORMATS[0]
    if text not in FORMATS:
        raise BadQuery(f"format must be one of {', '.join(FORMATS)}")
    return text


def _worker(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 4 and int(text) > 0):
        raise BadQuery("worker must be the number of one, 1 or more")
    return int(text)
