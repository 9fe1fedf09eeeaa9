"""Quotes out of the answer of an HTTP API. Pure: no socket, no clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jmespath
import msgspec

from wow.quotes.interfaces import SourceFailed
from wow.quotes.words import tidy
from wow.wire import Quote

MOST = 500
"""Items of an answer that are looked at; what follows is left alone."""


class Layout:
    """Where the quotes are in an answer."""

    def __init__(self, text: str, author: str, items: str = "@") -> None:
        """
        All are JMESPath expressions.

        @param text: the words, seen from an item.
        @param author: who said them, seen from an item; may lead nowhere.
        @param items: the list of items, or a single one, seen from the whole answer.
        @raise ValueError: if one of them is no such expression.
        """
        self._text = jmespath.compile(text)
        self._author = jmespath.compile(author)
        self._items = jmespath.compile(items)

    def read(self, body: bytes, source: str) -> list[Quote]:
        """
        Take the quotes out of an answer; items that are none are left out.

        @param body: JSON, in UTF-8.
        @param source: the name to put on each quote.
        @raise SourceFailed: if no quote is in it.
        """
        # Anything can come out of evaluating an operator's expression on a
        # stranger's data: errors of its own, of arithmetic, of recursion.
        try:
            quotes = list(self._quotes(_decode(body), source))
        except SourceFailed:
            raise
        except Exception as error:
            raise SourceFailed(f"the answer cannot be read: {type(error).__name__}") from None
        if not quotes:
            raise SourceFailed("the answer has no quotes where they should be")
        return quotes

    def _quotes(self, answer: Any, source: str) -> Iterator[Quote]:
        found = self._items.search(answer)
        for item in found[:MOST] if isinstance(found, list) else [found]:
            try:
                text, author = tidy(self._text.search(item), self._author.search(item))
            except ValueError:
                continue
            yield Quote(text, author, source)


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except UnicodeDecodeError:
        raise SourceFailed("the answer is not UTF-8") from None
    except (msgspec.MsgspecError, ValueError):
        raise SourceFailed("the answer is not JSON") from None
