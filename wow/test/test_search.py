"""Who searches where, without anybody searching."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.pow import work
from wow.pow.search import CHUNK, Chunk, Puzzle, Search, SolverFailed

TOKEN = "AQEDBQ"


class PuzzleTests(SynchronousTestCase):
    """Only what the protocol allows is a puzzle."""

    def test_effort(self) -> None:
        puzzle = Puzzle(TOKEN, 3, CHUNK + 1)
        self.assertEqual(puzzle.effort, 3 * (CHUNK + 1))
        self.assertEqual(puzzle.target, (2**64 - 1) // (CHUNK + 1))
        self.assertEqual(puzzle.chunks, 6)
        self.assertEqual(Puzzle(TOKEN, 3, 1).chunks, 3)

    def test_bounds(self) -> None:
        Puzzle("A" * 1024, 64, 2**32 - 1)
        Puzzle("A", 1, 1)
        for token in ("", "A" * 1025, "a b", "a\n", "ä", "a:b"):
            self.assertRaises(ValueError, Puzzle, token, 1, 1)
        for rounds in (0, -1, 65):
            self.assertRaises(ValueError, Puzzle, TOKEN, rounds, 1)
        for round_effort in (0, -1, 2**32):
            self.assertRaises(ValueError, Puzzle, TOKEN, 1, round_effort)

    def test_types(self) -> None:
        for arguments in ((b"A", 1, 1), (TOKEN, 1.0, 1), (TOKEN, 1, "1"), (None, 1, 1)):
            self.assertRaises(TypeError, Puzzle, *arguments)


class SearchTests(SynchronousTestCase):
    """Chunks go out, answers come in."""

    def setUp(self) -> None:
        self.progress: list[tuple[int, int, bool]] = []

    def search(self, rounds: int, round_effort: int = 1) -> Search:
        return Search(Puzzle(TOKEN, rounds, round_effort), lambda *seen: self.progress.append(seen))

    def take(self, search: Search) -> Chunk:
        chunk = search.take()
        assert chunk is not None
        return chunk

    def test_different_rounds_first(self) -> None:
        search = self.search(3)
        taken = [self.take(search) for _ in range(5)]
        self.assertEqual([chunk.round.index for chunk in taken], [0, 1, 2, 0, 1])
        self.assertEqual([chunk.start for chunk in taken], [0, 0, 0, CHUNK, CHUNK])

    def test_stays_in_its_round(self) -> None:
        search = self.search(3, 1000)
        first, _ = self.take(search), self.take(search)
        search.record(first, None)
        following = self.take(search)
        self.assertEqual((following.round.index, following.start), (0, CHUNK))

    def test_shares_the_last_round(self) -> None:
        search = self.search(2)
        first, second = self.take(search), self.take(search)
        search.record(first, 5)
        helping = self.take(search)
        self.assertEqual((helping.round.index, helping.start), (second.round.index, CHUNK))

    def test_nothing_left_when_solved(self) -> None:
        search = self.search(1)
        search.record(self.take(search), 0)
        self.assertIsNone(search.take())
        self.assertEqual(search.solution(), [0])

    def test_solution_in_order_of_rounds(self) -> None:
        search = self.search(2)
        first, second = self.take(search), self.take(search)
        search.record(second, 8)
        self.assertIsNone(search.solution())
        search.record(first, 7)
        self.assertEqual(search.solution(), [7, 8])

    def test_progress(self) -> None:
        search = self.search(1, 1000)
        first, second = self.take(search), self.take(search)
        search.record(second, None)
        search.record(first, 41)
        self.assertEqual(self.progress, [(0, CHUNK, False), (0, CHUNK + 42, True)])

    def test_progress_in_a_later_chunk(self) -> None:
        search = self.search(1, 1000)
        search.record(self.take(search), None)
        search.record(self.take(search), CHUNK + 9)
        self.assertEqual(self.progress[-1], (0, CHUNK + 10, True))

    def test_late_answer(self) -> None:
        """The first nonce found stays, and no more progress is told of."""
        search = self.search(1)
        first, second = self.take(search), self.take(search)
        search.record(second, CHUNK + 3)
        search.record(first, 2)
        self.assertEqual(search.solution(), [CHUNK + 3])
        self.assertEqual(len(self.progress), 1)

    def test_wrong_nonce(self) -> None:
        search = self.search(1, 2**32 - 1)
        search.record(self.take(search), 1)
        self.assertRaises(SolverFailed, search.solution)

    def test_range_exhausted(self) -> None:
        search = self.search(1)
        search.rounds[0].untried = work.NONCES - CHUNK - 10
        full, rest = self.take(search), self.take(search)
        self.assertEqual((rest.start + rest.count, rest.count), (work.NONCES, 10))
        self.assertIsNone(search.take())
        search.record(rest, None)
        with self.assertRaises(SolverFailed) as caught:
            search.record(full, None)
        self.assertEqual(str(caught.exception), "no nonce below 2^53 solves round 0")

    def test_last_nonce(self) -> None:
        search = self.search(1)
        search.rounds[0].untried = work.NONCES - 1
        search.record(self.take(search), work.NONCES - 1)
        self.assertEqual(search.solution(), [work.NONCES - 1])

    @given(
        st.integers(1, 4),
        st.integers(1, 7),
        st.lists(st.tuples(st.integers(0, 6), st.booleans())),
    )
    def test_every_nonce_once(
        self, rounds: int, processes: int, answers: list[tuple[int, bool]]
    ) -> None:
        """Whatever the order of answers: no nonce twice, none left out, no process idle."""
        search = self.search(rounds)
        back: list[Chunk] = []
        out = [self.take(search) for _ in range(processes)]
        for which, found in answers:
            back.append(chunk := out.pop(which % processes))
            search.record(chunk, chunk.start if found else None)
            if search.solution() is not None:
                break
            out.append(self.take(search))
        for index in range(rounds):
            starts = sorted(c.start for c in back + out if c.round.index == index)
            self.assertEqual(starts, list(range(0, len(starts) * CHUNK, CHUNK)))
