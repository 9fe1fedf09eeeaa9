"""Quotes are where the operator says that they are in an answer, or there are none."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.quotes.answer import Layout
from wow.quotes.interfaces import SourceFailed
from wow.quotes.words import tidy
from wow.wire import Quote

FLAT = Layout("q", "a")

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("qax"), inner),
)


class Reading(SynchronousTestCase):
    """An answer in JSON is read by the layout."""

    def read(self, answer: Any, layout: Layout = FLAT) -> list[tuple[str, str]]:
        quotes = layout.read(json.dumps(answer).encode(), "api")
        return [(quote.text, quote.author) for quote in quotes]

    def refuse(self, answer: Any, layout: Layout = FLAT) -> None:
        self.assertRaises(SourceFailed, self.read, answer, layout)

    def test_list(self) -> None:
        """Each item of a list is a quote, in order."""
        answer = [{"q": "one", "a": "A"}, {"q": "two", "a": "B"}]
        self.assertEqual(self.read(answer), [("one", "A"), ("two", "B")])

    def test_single_object(self) -> None:
        """An answer may be one quote."""
        self.assertEqual(self.read({"q": "one", "a": "A"}), [("one", "A")])

    def test_nested(self) -> None:
        """The items, and their parts, may be further down."""
        layout = Layout("body.text", "by[0].name", "data.quotes")
        item = {"body": {"text": "one"}, "by": [{"name": "A"}]}
        self.assertEqual(self.read({"data": {"quotes": [item]}}, layout), [("one", "A")])

    def test_list_of_strings(self) -> None:
        """A quote may be no more than its text."""
        self.assertEqual(self.read(["one", "two"], Layout("@", "a")), [("one", ""), ("two", "")])

    def test_source(self) -> None:
        """Each quote tells where it came from."""
        self.assertEqual(FLAT.read(b'{"q":"one"}', "api"), [Quote("one", "", "api")])

    def test_author_may_be_missing(self) -> None:
        """A quote without an author is by nobody."""
        self.assertEqual(self.read([{"q": "one"}, {"q": "two", "a": None}])[0], ("one", ""))

    def test_invalid_items_are_left_out(self) -> None:
        """Items that are no quotes do not spoil the others."""
        bads: list[Any] = [
            {},
            {"q": ""},
            {"q": 1},
            {"q": "a\x1b[2J"},
            {"q": "x" * 1001},
            None,
            7,
            [],
        ]
        for bad in bads:
            self.assertEqual(self.read([bad, {"q": "one", "a": "A"}]), [("one", "A")])
            self.refuse([bad])

    def test_invalid_author(self) -> None:
        """A quote whose author cannot be shown is none."""
        bads: list[Any] = [1, [], {}, "a\x07", "x" * 201]
        for bad in bads:
            self.refuse([{"q": "one", "a": bad}])

    def test_wrong_shape(self) -> None:
        """An answer with the quotes elsewhere has none."""
        answers: list[Any] = [None, 1, "text", [], {}, {"quotes": [{"q": "one"}]}]
        for answer in answers:
            self.refuse(answer)
        self.refuse({"data": 1}, Layout("q", "a", "data.quotes"))

    def test_at_most_500(self) -> None:
        """The 501st item and all after it are not looked at."""
        answer = [{"q": str(number)} for number in range(600)]
        self.assertEqual([text for text, _ in self.read(answer)], [str(n) for n in range(500)])

    def test_expression_that_fails_on_the_data(self) -> None:
        """An expression that does not fit the answer fails the source, not the server."""
        for expression in ("length(n)", "ceil(n)", "n && sum(n)", "abs(q)", "max_by(@, &n)"):
            self.refuse({"q": "one", "n": 1e308}, Layout(expression, "a"))

    def test_bad_expression(self) -> None:
        """An expression that is none is refused when it is given."""
        for expressions in (("q[", "a"), ("q", ""), ("q", "a", "nosuch(")):
            self.assertRaises(ValueError, Layout, *expressions)


class ReadingAnything(SynchronousTestCase):
    """Whatever an API sends, there are quotes in it or the source has failed."""

    def refuse(self, body: bytes, reason: str) -> None:
        with self.assertRaises(SourceFailed) as caught:
            FLAT.read(body, "api")
        self.assertEqual(str(caught.exception), reason)

    def test_not_json(self) -> None:
        """What is no JSON is named as such."""
        for body in (
            b"",
            b"<html>",
            b"[",
            b'[{"q":"one"}',
            b'{"q":"one"}x',
            b"NaN",
            b"\x1f\x8b\x08",
        ):
            self.refuse(body, "the answer is not JSON")

    def test_not_utf8(self) -> None:
        """So is what is not UTF-8."""
        self.refuse(b'[{"q":"\xff\xfe"}]', "the answer is not UTF-8")

    def test_deep_nesting(self) -> None:
        """Nesting deeper than the stack fails the source."""
        for body in (b"[" * 60_000, b'{"q":' * 10_000):
            self.refuse(body, "the answer cannot be read: RecursionError")

    def test_huge_numbers(self) -> None:
        """A number of any size and length fails the source."""
        for number in (b"9" * 60_000, b"1e999999", b"-" + b"1" * 400, b"0." + b"1" * 60_000):
            self.assertRaises(SourceFailed, FLAT.read, b'{"q":' + number + b"}", "api")

    def check(self, body: bytes, layout: Layout) -> None:
        try:
            quotes = layout.read(body, "api")
        except SourceFailed:
            return
        self.assertTrue(0 < len(quotes) <= 500)
        for quote in quotes:
            self.assertEqual((quote.text, quote.author), tidy(quote.text, quote.author))
            self.assertEqual(quote.source, "api")

    @given(st.binary())
    @example(b'{"q":"one"}')
    def test_any_bytes(self, body: bytes) -> None:
        """Any bytes: valid quotes, or L{SourceFailed}."""
        self.check(body, FLAT)

    @given(_values, st.sampled_from(["q", "@", "x.q", "length(q)", "join(' ', q)"]))
    def test_any_json(self, value: Any, text: str) -> None:
        """Any JSON, and any surrogate or NaN in it: the same."""
        self.check(json.dumps(value).encode(), Layout(text, "a", "x || @"))
