"""The bars, on a terminal in memory."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from wow.cli.progress import VisibleSolver
from wow.pow.search import Progress, Puzzle
from wow.pow.solver import ISolver, SynchronousSolver, silently

SHOW_CURSOR = "\x1b[?25h"


class SpokenSolver(SynchronousSolver):
    """Says what progress it makes as the test says."""

    progress: Progress

    def solve(self, puzzle: Puzzle, progress: Progress = silently) -> Deferred[list[int]]:
        self.progress = progress
        self.solved: Deferred[list[int]] = Deferred()
        return self.solved


class VisibleSolverTests(SynchronousTestCase):
    """Another solver's progress is seen, and nothing else of it changes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.screen = StringIO()
        self.inner = SpokenSolver()

    def solve(self, rounds: int = 3, height: int = 24) -> Deferred[list[int]]:
        console = Console(
            file=self.screen,
            force_terminal=True,
            force_interactive=True,
            width=80,
            height=height,
            color_system=None,
            _environ={},
        )
        solver = VisibleSolver(self.inner, console, self.clock)
        self.assertTrue(verifyObject(ISolver, solver))
        return solver.solve(Puzzle("AQ", rounds, 1000), lambda *said: self.told.append(said))

    def say(self, *said: tuple[int, int, bool]) -> str:
        """What is drawn a second after this progress."""
        self.told: list[tuple[int, int, bool]] = []
        self.clock.advance(1)
        for one in said:
            self.inner.progress(*one)
        self.assertEqual(self.told, list(said))
        return self.screen.getvalue()

    def test_bars(self) -> None:
        self.solve()
        self.say((0, 1234, True))
        drawn = self.say((1, 700, False))
        lines = drawn[drawn.rindex("round 1/3") :].splitlines()
        self.assertIn("1,234 hashes, solved", lines[0])
        self.assertIn("700 hashes", lines[1])
        self.assertNotIn("solved", lines[1])
        self.assertTrue(lines[2].startswith("round 3/3"))
        whole, half = (line.count("\N{BOX DRAWINGS HEAVY HORIZONTAL}") for line in lines[:2])
        # After 0.7 of the expected hashes half of such rounds are solved.
        self.assertAlmostEqual(half / whole, 0.5, delta=0.05)

    def test_never_full_before_it_is_solved(self) -> None:
        self.solve(1)
        self.say((0, 3000, False))
        drawn = self.say((0, 3000, False)).split("\r")[-1]
        self.assertLess(drawn.count("\N{BOX DRAWINGS HEAVY HORIZONTAL}"), 40)

    def test_gone_when_solved(self) -> None:
        solved = self.solve()
        self.say((0, 5, False))
        self.inner.solved.callback([1, 2, 3])
        self.assertEqual(self.successResultOf(solved), [1, 2, 3])
        self.assertTrue(SHOW_CURSOR in self.screen.getvalue())

    def test_gone_when_cancelled(self) -> None:
        solved = self.solve()
        self.say((0, 5, False))
        solved.cancel()
        self.failureResultOf(solved, CancelledError)
        self.assertTrue(SHOW_CURSOR in self.screen.getvalue())

    def test_quick_puzzle_is_not_shown(self) -> None:
        solved = self.solve()
        self.told = []
        for index in range(3):
            self.inner.progress(index, 10, True)
        self.inner.solved.callback([])
        self.successResultOf(solved)
        self.assertEqual(self.screen.getvalue(), "")

    def test_not_drawn_too_often(self) -> None:
        self.solve()
        self.say((0, 1, False))
        before = self.screen.getvalue()
        self.clock.advance(0.09)
        self.inner.progress(0, 2, False)
        self.assertEqual(self.screen.getvalue(), before)
        self.clock.advance(0.02)
        self.inner.progress(0, 3, False)
        self.assertNotEqual(self.screen.getvalue(), before)

    def test_more_rounds_than_lines(self) -> None:
        """Those at work are shown."""
        self.solve(rounds=64, height=10)
        self.say((62, 5, True))
        drawn = self.say((63, 5, False))
        self.assertIn("round 64/64", drawn)
        self.assertNotIn("round 63/64", drawn)
        self.assertNotIn("round 1/64", drawn)

    def test_close(self) -> None:
        solver = VisibleSolver(SynchronousSolver(), Console(file=self.screen), self.clock)
        self.assertIsNone(self.successResultOf(solver.close()))
