"""Log lines travel whole, and never keep a worker waiting."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.workers.lines import Lines, Outlet

PIPE = 2**16
"""What a pipe holds."""


class Cutting(SynchronousTestCase):
    @given(
        st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))),
        st.lists(st.integers(0, 100)),
    )
    def test_lines_come_out_as_they_went_in(self, lines: list[str], cuts: list[int]) -> None:
        told: list[str] = []
        data, begin = "".join(f"{line}\n" for line in lines).encode(), 0
        cutter = Lines(told.append)
        for cut in (*sorted(cuts), len(data)):
            cutter.feed(data[begin:cut])
            begin = cut
        cutter.end()
        self.assertEqual(told, lines)

    def test_the_last_may_have_no_end(self) -> None:
        told: list[str] = []
        cutter = Lines(told.append)
        cutter.feed(b"one\ntw")
        self.assertEqual(told, ["one"])
        cutter.end()
        cutter.end()
        self.assertEqual(told, ["one", "tw"])

    def test_none_is_kept_without_end(self) -> None:
        told: list[str] = []
        cutter = Lines(told.append)
        for _ in range(100):
            cutter.feed(b"x" * 10_000)
        self.assertLess(sum(map(len, told[-1:])), 2**18)
        self.assertGreater(len(told), 5)

    def test_what_is_no_text(self) -> None:
        told: list[str] = []
        Lines(told.append).feed(b"\xff\n")
        self.assertEqual(told, ["�"])


class Writing(SynchronousTestCase):
    def setUp(self) -> None:
        self.reading, self.writing = os.pipe()
        self.addCleanup(os.close, self.writing)
        os.set_blocking(self.reading, False)
        self.outlet = Outlet(self.writing, terminal=True)

    def read(self) -> bytes:
        data = b""
        try:
            while more := os.read(self.reading, PIPE):
                data += more
        except BlockingIOError:
            pass
        return data

    def close(self) -> None:
        os.close(self.reading)

    def test_a_line(self) -> None:
        self.addCleanup(self.close)
        self.outlet.write("häppy\n")
        self.assertEqual(self.read(), "häppy\n".encode())
        self.assertTrue(self.outlet.isatty())

    def test_when_nobody_reads_lines_are_lost_whole(self) -> None:
        self.addCleanup(self.close)
        sent = [f"{number}{'x' * 7000}\n" for number in range(20)]
        for line in sent:
            self.outlet.write(line)
        before = self.read()
        self.outlet.write("more\n")
        *lines, last = (before + self.read()).decode().splitlines(keepends=True)
        self.assertEqual(lines, sent[: len(lines)])
        self.assertIn(len(lines), range(5, 15))
        self.assertEqual(last, "more\n")

    def test_a_line_longer_than_the_pipe_arrives_whole_if_somebody_reads(self) -> None:
        self.addCleanup(self.close)
        self.outlet.write("x" * (2 * PIPE) + "\n")
        read = self.read()
        self.outlet.write("lost, as there is no room yet\n")
        read += self.read()
        self.outlet.write("more\n")
        read += self.read()
        self.assertEqual(read, b"x" * (2 * PIPE) + b"\nmore\n")

    def test_a_full_pipe_keeps_the_line_that_had_no_room(self) -> None:
        self.addCleanup(self.close)
        os.set_blocking(self.writing, False)
        os.write(self.writing, b"-" * PIPE)
        self.outlet.write("one\n")
        self.outlet.write("lost\n")
        self.assertEqual(self.read(), b"-" * PIPE)
        self.outlet.write("two\n")
        self.assertEqual(self.read(), b"one\ntwo\n")

    def test_when_the_parent_is_gone(self) -> None:
        self.close()
        self.assertRaises(OSError, self.outlet.write, "line\n")
        self.assertRaises(OSError, self.outlet.write, "another\n")
