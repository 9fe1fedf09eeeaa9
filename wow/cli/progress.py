"""
How far a search is, for whoever waits at the terminal.
"""

from __future__ import annotations

from math import exp
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from wow.pow import search
from wow.pow.search import Puzzle
from wow.pow.solver import ISolver, silently

_T = TypeVar("_T")

_REDRAW = 0.1
"""Seconds from one picture to the next. What is solved sooner is not shown at all."""


@implementer(ISolver)
class VisibleSolver:
    """Another solver, with a bar for each round while it is at work."""

    def __init__(self, solver: ISolver, console: Console, clock: IReactorTime) -> None:
        self._solver = solver
        self._console = console
        self._clock = clock

    def solve(self, puzzle: Puzzle, progress: search.Progress = silently) -> Deferred[list[int]]:
        """See L{ISolver.solve}."""
        bars = _Bars(puzzle, self._console, self._clock)

        def show(round_index: int, hashes: int, solved: bool) -> None:
            bars.show(round_index, hashes, solved)
            progress(round_index, hashes, solved)

        return self._solver.solve(puzzle, show).addBoth(bars.remove)

    def close(self) -> Deferred[None]:
        """See L{ISolver.close}."""
        return self._solver.close()


class _Bars:
    """
    The bars of one puzzle.

    A round has no end that could be foreseen: it is as likely to end with the
    next hash as it was at the first. So a bar's length is the part of all
    such rounds that would be solved by now.
    """

    def __init__(self, puzzle: Puzzle, console: Console, clock: IReactorTime) -> None:
        self._round_effort = puzzle.round_effort
        self._clock = clock
        self._drawn = clock.seconds()
        # It draws when told to: a thread of its own would draw over the quote.
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        # Where there is no room for all of them, only those at work are there.
        self._roomy = puzzle.rounds < console.height
        self._tasks = [
            self._bars.add_task(
                f"round {number}/{puzzle.rounds}", total=1.0, state="", visible=self._roomy
            )
            for number in range(1, puzzle.rounds + 1)
        ]

    def show(self, round_index: int, hashes: int, solved: bool) -> None:
        """Take in progress, and draw unless that was done just now."""
        part = 1.0 if solved else 1 - exp(-hashes / self._round_effort)
        self._bars.update(
            self._tasks[round_index],
            completed=part,
            state=f"{hashes:,} hashes{', solved' if solved else ''}",
            visible=self._roomy or not solved,
        )
        if self._clock.seconds() - self._drawn >= _REDRAW:
            self._bars.start()
            self._bars.refresh()
            self._drawn = self._clock.seconds()

    def remove(self, result: _T) -> _T:
        """Leave the terminal as it was."""
        self._bars.stop()
        return result
