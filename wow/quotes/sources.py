"""Where quotes come from: an HTTP API, or a collection in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import yaml
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer

from wow import __version__
from wow.http.client import Client
from wow.http.errors import describe
from wow.quotes.answer import Layout
from wow.quotes.interfaces import IQuoteSource, SourceFailed
from wow.quotes.words import tidy
from wow.wire import Quote

_EMBEDDED = "wisdom.yaml"

_DEAL = 100
"""Quotes by which a collection moves on each time: what the usual pool takes."""


@implementer(IQuoteSource)
class HttpSource:
    """An HTTP API that answers with JSON."""

    def __init__(
        self,
        name: str,
        url: str,
        layout: Layout,
        agent: IAgent,
        clock: IReactorTime,
        headers: Mapping[str, str],
        timeout: float,
        max_bytes: int,
    ) -> None:
        """
        @param layout: where the quotes are in an answer.
        @param agent: makes the requests. It need not keep connections open.
        @param headers: sent with each request; may hold an API key.
        @param timeout: seconds for one attempt, from connecting to the last
            byte of the answer.
        @param max_bytes: of the longest body that is read.
        """
        self.name = name
        self._url = url
        self._layout = layout
        self._client = Client(agent, clock, timeout, max_bytes)
        self._headers = _headers(headers)

    def fetch(self) -> Deferred[list[Quote]]:
        """
        Ask the API, once. No redirect is followed.

        @return: a Deferred that fires with one to 500 quotes, or fails with
            L{SourceFailed}, after C{timeout} seconds at the latest.
            Cancelling it closes the connection.
        """
        answer = self._client.request("GET", self._url, self._headers)
        return answer.addCallback(self._layout.read, self.name).addErrback(_explain)


def _headers(more: Mapping[str, str]) -> Headers:
    headers = Headers({"Accept": ["application/json"], "User-Agent": [f"wow/{__version__}"]})
    for name, value in more.items():
        headers.setRawHeaders(name, [value])
    return headers


def _explain(failure: Failure) -> Failure:
    if failure.check(SourceFailed):
        return failure
    return Failure(SourceFailed(describe(failure)))


@implementer(IQuoteSource)
class CollectionSource:
    """A collection of quotes in memory, dealt like a deck of cards."""

    def __init__(self, name: str, quotes: Sequence[tuple[str, str]], random: Random) -> None:
        """
        @param quotes: text and author of each.
        @raise ValueError: if there are none.
        """
        if not quotes:
            raise ValueError(f"{name} has no quotes")
        self.name = name
        self._random = random
        self._deck = [Quote(text, author, name) for text, author in quotes]
        self._next = len(self._deck)

    def fetch(self) -> Deferred[list[Quote]]:
        """
        Deal the whole collection, those first that have not come for longest.

        @return: a Deferred that has fired.
        """
        if self._next >= len(self._deck):
            # Once a deck and not each time: under load the pool takes a
            # hundred quotes every few milliseconds.
            self._random.shuffle(self._deck)
            self._next = 0
        first, self._next = self._next, self._next + _DEAL
        return succeed(self._deck[first:] + self._deck[:first])


def load_collection(path: str | Path | None) -> list[tuple[str, str]]:
    """
    Read a collection: a YAML list of C{{text, author}}, where the author may
    be left out.

    @param path: None for the collection that wow brings.
    @return: text and author of each quote.
    @raise ValueError: if the file cannot be read, or is no collection; the
        message names the file, and the entry by its number from 1.
    """
    name = _EMBEDDED if path is None else str(path)
    entries = _load_yaml(name, path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{name}: must be a list of quotes, with at least one")
    return list(_read_entries(name, entries))


def _load_yaml(name: str, path: str | Path | None) -> Any:
    file = files(__package__).joinpath(_EMBEDDED) if path is None else Path(path)
    # The one in C, where there is one, is ten times as fast.
    safe_loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(file.read_text("utf-8"), safe_loader)  # noqa: S506
    except (OSError, UnicodeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{name}: {error}") from None


def _read_entries(name: str, entries: list[Any]) -> Iterator[tuple[str, str]]:
    for number, entry in enumerate(entries, 1):
        try:
            yield _read_entry(entry)
        except ValueError as error:
            raise ValueError(f"{name}: entry {number}: {error}") from None


def _read_entry(entry: Any) -> tuple[str, str]:
    if not isinstance(entry, dict):
        raise ValueError("must have a text and an author")
    if unknown := entry.keys() - {"text", "author"}:
        raise ValueError(f"has {', '.join(sorted(map(repr, unknown)))}, which means nothing")
    return tidy(entry.get("text"), entry.get("author"))
