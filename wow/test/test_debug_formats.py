"""A profile as text, for pprof, as a page, and for speedscope."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.debug import pages, pprof, text
from wow.debug.profile import Cost, Function, Place, Profile, Stack

MS = 10**6
LOOP = Function("Loop.run", "/srv/loop.py", 10)
WORK = Function("work", "/srv/work.py", 5)
HASH = Function("digest", "/srv/hash.py", 7)
STACKS = {
    (Place(HASH, 8), Place(WORK, 6), Place(LOOP, 12)): Cost(3, 30 * MS),
    (Place(WORK, 9), Place(LOOP, 12)): Cost(1, 10 * MS),
}

functions = st.builds(Function, st.text(), st.text(), st.integers(0, 2**31))
stacks = st.lists(st.builds(Place, functions, st.integers(0, 2**31)), max_size=6).map(tuple)
costs = st.builds(Cost, st.integers(0, 2**20), st.integers(0, 2**50))


def profile(found: dict[Stack, Cost]) -> Profile:
    return Profile(1_700_000_000 * 10**9, 2.0, 10 * MS, 5 * MS, found)


# What follows reads protocol buffers by their own documentation, apart from what writes them.


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message, by number."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        value, at = varint(data, at)
        if key & 7 == 2:
            yield key >> 3, data[at : at + value]
            at += value
        else:
            assert key & 7 == 0, key
            yield key >> 3, value


def varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def packed(data: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(data):
        number, at = varint(data, at)
        numbers.append(number)
    return numbers


def decode(data: bytes) -> dict[int, list[Any]]:
    message: dict[int, list[Any]] = {}
    for number, value in fields(data):
        message.setdefault(number, []).append(value)
    return message


class Pprof(SynchronousTestCase):
    """tests/test_debug.py has C{go tool pprof} read it."""

    def read(self, encoded: bytes) -> tuple[dict[int, list[Any]], dict[Stack, Cost]]:
        """The message, and the stacks in it."""
        message = decode(gzip.decompress(encoded))
        strings = [text.decode() for text in message[6]]
        self.assertEqual(strings[0], "")
        known = {}
        for raw in message.get(5, []):
            each = {number: value for number, (value,) in decode(raw).items()}
            self.assertEqual(each[2], each[3])
            known[each[1]] = Function(strings[each[2]], strings[each[4]], each[5])
        places = {}
        for raw in message.get(4, []):
            each = decode(raw)
            line = decode(each[4][0])
            places[each[1][0]] = Place(known[line[1][0]], line[2][0])
        found = {}
        for raw in message.get(2, []):
            sample = decode(raw)
            samples, nanoseconds = packed(sample[2][0])
            stack = tuple(places[number] for number in packed(sample[1][0]))
            found[stack] = Cost(samples, nanoseconds)
        return message, found

    def test_says_what_is_measured(self) -> None:
        message, _ = self.read(pprof.encode(profile(STACKS)))
        strings = [text.decode() for text in message[6]]
        kinds = [tuple(strings[decode(kind)[n][0]] for n in (1, 2)) for kind in message[1]]
        self.assertEqual(kinds, [("samples", "count"), ("cpu", "nanoseconds")])
        self.assertEqual(message[9], [1_700_000_000 * 10**9])
        self.assertEqual((message[10], message[12]), ([2 * 10**9], [10 * MS]))
        self.assertEqual(strings[message[13][0]], f"other threads: {5 * MS} ns of CPU time")

    @given(st.dictionaries(stacks, costs, max_size=6))
    def test_all_of_it_is_there(self, found: dict[Stack, Cost]) -> None:
        self.assertEqual(self.read(pprof.encode(profile(found)))[1], found)


class Text(SynchronousTestCase):
    def test_functions(self) -> None:
        said = text.show(profile(STACKS))
        self.assertIn("40.0 ms of CPU time in 2.00 s (2.0% of a core), 4 samples\n", said)
        self.assertIn("other threads: 5.0 ms\n", said)
        rows = [line.split(maxsplit=4) for line in said.splitlines() if "/srv/" in line]
        self.assertEqual(
            rows[:3],
            [
                ["30.0", "75.0%", "30.0", "75.0%", "digest (/srv/hash.py:7)"],
                ["10.0", "25.0%", "40.0", "100.0%", "work (/srv/work.py:5)"],
                ["0.0", "0.0%", "40.0", "100.0%", "Loop.run (/srv/loop.py:10)"],
            ],
        )

    def test_stacks(self) -> None:
        said = text.show(profile(STACKS))
        dearest = said[said.index("\n30.0 ms\n") :].splitlines()[2:5]
        self.assertEqual(
            [line.strip() for line in dearest],
            ["digest (/srv/hash.py:8)", "work (/srv/work.py:6)", "Loop.run (/srv/loop.py:12)"],
        )

    def test_function_that_calls_itself_counts_once(self) -> None:
        stack = (Place(WORK, 6), Place(WORK, 7), Place(LOOP, 12))
        said = text.show(profile({stack: Cost(1, 10 * MS)}))
        self.assertIn("10.0 100.0%       10.0 100.0%  work", said)

    def test_bounded(self) -> None:
        many: dict[Stack, Cost] = {
            (Place(Function(f"f{number}", "/srv/x.py", number), 1),): Cost(1, number)
            for number in range(1000)
        }
        self.assertLess(len(text.show(profile(many)).splitlines()), 100)

    @given(st.dictionaries(stacks, costs, max_size=6))
    def test_anything(self, found: dict[Stack, Cost]) -> None:
        text.show(profile(found))


class Pages(SynchronousTestCase):
    def test_page_needs_nothing_from_elsewhere(self) -> None:
        page = pages.html(profile(STACKS)).decode()
        self.assertTrue(page.lstrip().lower().startswith("<!doctype html>"))
        for name in ("digest", "work", "Loop.run"):
            self.assertIn(name, page)
        for loads in ('src="http', "src='http", "url(http", "@import", "fetch("):
            self.assertNotIn(loads, page)

    def test_speedscope(self) -> None:
        content = json.loads(pages.speedscope(profile(STACKS)))
        self.assertEqual(content["$schema"], "https://www.speedscope.app/file-format-schema.json")
        frames = [frame["name"] for frame in content["shared"]["frames"]]
        # It has what a caller took itself as if that were one more call.
        self.assertEqual(set(frames), {"digest", "work", "Loop.run", "[self]"})
        (shown,) = content["profiles"]
        self.assertEqual((shown["type"], shown["unit"]), ("evented", "seconds"))
        open_frames: list[int] = []
        taken = dict.fromkeys(frames, 0.0)
        last = 0.0
        for event in shown["events"]:
            if open_frames:
                taken[frames[open_frames[-1]]] += event["at"] - last
            last = event["at"]
            if event["type"] == "O":
                open_frames.append(event["frame"])
            else:
                self.assertEqual(open_frames.pop(), event["frame"])
        self.assertEqual(open_frames, [])
        self.assertAlmostEqual(taken["digest"], 0.030)
        self.assertAlmostEqual(taken["work"] + taken["[self]"], 0.010)

    def test_of_nothing(self) -> None:
        """A server that nobody asks for anything."""
        self.assertIn(b"<html", pages.html(profile({})).lower())
        self.assertIn("profiles", json.loads(pages.speedscope(profile({}))))
