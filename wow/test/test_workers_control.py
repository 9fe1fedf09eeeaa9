"""What a parent and its workers say to each other arrives as it was said, or is refused."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.config import load
from wow.pow.keys import KeyRing, generate
from wow.workers.aggregate import Family, Sample
from wow.workers.control import (
    ORDERS,
    WORDS,
    Ask,
    Brief,
    Channel,
    Drain,
    Hurry,
    Inherited,
    PutInForce,
    Ready,
    Report,
    Serve,
    Terms,
    frame,
    frame_brief,
    pack,
    read_brief,
    unpack,
)

orders = st.one_of(
    st.just(Serve()),
    st.just(Hurry()),
    st.builds(PutInForce, st.binary(max_size=50)),
    st.builds(Ask, st.integers(0, 2**40), st.booleans()),
    st.builds(Drain, st.booleans()),
)

families = st.builds(
    Family,
    st.text(),
    st.sampled_from(["counter", "gauge", "histogram"]),
    st.text(),
    st.sampled_from(["sum", "max", "min"]),
    st.lists(
        st.builds(
            Sample,
            st.text(),
            st.dictionaries(st.text(), st.text(), max_size=2),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=3,
    ),
)

words = st.one_of(
    st.just(Ready()),
    st.builds(
        Report,
        st.integers(0, 2**40),
        st.booleans(),
        st.dictionaries(st.text(), st.text() | st.integers(0, 9), max_size=3),
        st.none() | st.lists(families, max_size=2),
    ),
)


class Heard:
    """
    What comes out of a channel.

    @ivar lost: why it was lost, as often as it was.
    """

    def __init__(self, decoder: Any) -> None:
        self.messages: list[Any] = []
        self.lost: list[str] = []
        self.channel = Channel(decoder, self.messages.append, self.lost.append)

    def feed(self, data: bytes, *cuts: int) -> None:
        begin = 0
        for cut in (*sorted(min(cut, len(data)) for cut in cuts), len(data)):
            self.channel.dataReceived(data[begin:cut])
            begin = cut


class Messages(SynchronousTestCase):
    @given(st.lists(orders, max_size=5), st.lists(st.integers(0, 200), max_size=5))
    def test_orders_arrive(self, said: list[Any], cuts: list[int]) -> None:
        heard = Heard(ORDERS)
        heard.feed(b"".join(map(frame, said)), *cuts)
        self.assertEqual((heard.messages, heard.lost), (said, []))

    @given(st.lists(words, max_size=3), st.lists(st.integers(0, 500), max_size=5))
    def test_words_arrive(self, said: list[Any], cuts: list[int]) -> None:
        heard = Heard(WORDS)
        heard.feed(b"".join(map(frame, said)), *cuts)
        self.assertEqual((heard.messages, heard.lost), (said, []))

    @given(st.binary(max_size=100))
    def test_anything_else_is_heard_or_the_end(self, data: bytes) -> None:
        heard = Heard(WORDS)
        heard.feed(data)
        self.assertLessEqual(len(heard.lost), 1)

    def test_nonsense_is_the_end(self) -> None:
        heard = Heard(WORDS)
        heard.feed(b"\x00\x00\x00\x02{}" + frame(Ready()))
        self.assertEqual(heard.messages, [])
        self.assertEqual(len(heard.lost), 1)
        self.assertIn("no sense", heard.lost[0])

    def test_what_is_too_long_is_the_end(self) -> None:
        heard = Heard(WORDS)
        heard.feed((2**26 + 1).to_bytes(4, "big") + b"x" * 10)
        heard.feed(b"x")
        heard.channel.connectionLost()
        self.assertEqual(len(heard.lost), 1)
        self.assertIn("too long", heard.lost[0])

    def test_the_end_is_told(self) -> None:
        heard = Heard(WORDS)
        heard.channel.connectionLost()
        self.assertEqual(len(heard.lost), 1)


class Briefs(SynchronousTestCase):
    def setUp(self) -> None:
        settings = load(None, {"WOW_LIMITS__DENY": '["192.0.2.0/24"]'})
        self.keys = KeyRing([generate(), generate()])
        door = Inherited("listen.0", 5, shared=False)
        self.brief = Brief(2, Terms(settings, self.keys), (door,), "the.reactor", terminal=True)
        self.reading, self.writing = os.pipe()
        self.addCleanup(os.close, self.reading)

    def test_arrives_and_nothing_after_it_is_read(self) -> None:
        os.write(self.writing, frame_brief(self.brief) + b"more")
        os.close(self.writing)
        arrived = read_brief(self.reading)
        self.assertEqual(arrived.terms.settings, self.brief.terms.settings)
        self.assertEqual(arrived.terms.keys.ids(), self.keys.ids())
        self.assertEqual((arrived.number, arrived.doors), (2, self.brief.doors))
        self.assertEqual(os.read(self.reading, 10), b"more")

    def test_parent_that_is_gone(self) -> None:
        os.write(self.writing, frame_brief(self.brief)[:-1])
        os.close(self.writing)
        self.assertRaises(EOFError, read_brief, self.reading)

    def test_settings(self) -> None:
        os.close(self.writing)
        settings = self.brief.terms.settings
        self.assertEqual(unpack(pack(settings)), settings)
