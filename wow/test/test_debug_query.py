"""What can be asked of a process, and within which bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.debug.query import FORMATS, LONGEST, PAGES, BadQuery, Query, read

NAMES = st.sampled_from([b"seconds", b"format", b"worker", b"color", b"\xff"])
VALUES = st.one_of(
    st.binary(max_size=9),
    st.sampled_from([b"1", b"60", b"-1", b"1e1", b"nan", b"inf", b"html", b"9999"]),
)


class Reading(SynchronousTestCase):
    def refused(self, page: str, **arguments: bytes) -> str:
        given = {name.encode(): [value] for name, value in arguments.items()}
        return str(self.assertRaises(BadQuery, read, page, given))

    def test_nothing_said(self) -> None:
        for page in PAGES:
            self.assertEqual(read(page, {}), (Query(page, 10, "text"), None))

    def test_all_said(self) -> None:
        for form in FORMATS:
            arguments = {b"seconds": [b"2.5"], b"format": [form.encode()], b"worker": [b"3"]}
            self.assertEqual(read("profile", arguments), (Query("profile", 2.5, form), 3))

    def test_bounds_of_seconds(self) -> None:
        for seconds in (b"1", b"60"):
            self.assertEqual(read("heap", {b"seconds": [seconds]})[0].seconds, float(seconds))
        for seconds in (b"0", b"0.99", b"60.01", b"-1", b"nan", b"inf", b"", b"1s", b"\xff"):
            said = self.refused("heap", seconds=seconds)
            self.assertEqual(said, "seconds must be a number from 1 to 60")

    def test_formats(self) -> None:
        for form in (b"", b"svg", b"HTML"):
            said = self.refused("profile", format=form)
            self.assertEqual(said, "format must be one of text, html, speedscope, pprof")

    def test_workers(self) -> None:
        for worker in (b"0", b"-1", b"a", b"1.5", b"1000", "\u0661".encode(), b""):
            self.assertIn("worker must be", self.refused("gc", worker=worker))

    def test_unknown(self) -> None:
        said = self.refused("gc", seconds=b"1")
        self.assertEqual(said, "seconds is unknown here; there is worker")
        self.assertIn("second is unknown", self.refused("profile", second=b"1"))

    def test_twice(self) -> None:
        twice = {b"seconds": [b"1", b"2"]}
        self.assertIn("twice", str(self.assertRaises(BadQuery, read, "profile", twice)))

    @given(st.sampled_from(PAGES), st.dictionaries(NAMES, st.lists(VALUES, max_size=2, min_size=1)))
    def test_anything(self, page: str, arguments: dict[bytes, list[bytes]]) -> None:
        try:
            query, worker = read(page, arguments)
        except BadQuery as bad:
            self.assertTrue(str(bad).isascii())
            return
        self.assertTrue(1 <= query.seconds <= LONGEST)
        self.assertIn(query.format, FORMATS)
        self.assertTrue(worker is None or 1 <= worker <= 999)
