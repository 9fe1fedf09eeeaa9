"""What a case is: something to measure, with a target."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Result = dict[str, Any]
"""Figures that can be kept as JSON. Its keys say their units."""


@dataclass(frozen=True)
class Row:
    """
    A line of a table.

    @ivar spread: the least and the most seen.
    @ivar target: what it should be, if there is such a thing.
    @ivar met: whether it is.
    """

    what: str
    measured: str
    spread: str = ""
    target: str = ""
    met: bool = False


@dataclass(frozen=True)
class Case:
    """
    @ivar idea: what is measured, in a sentence.
    @ivar arguments: adds those that it takes to a parser.
    @ivar measure: does it, given them, with the servers on a core of their own.
    @ivar rows: a result for people.
    @ivar draw: writes a picture of a result, where there is one.
    @ivar long: whether it takes so long that it is not done with all others.
    """

    name: str
    idea: str
    arguments: Callable[[ArgumentParser], None]
    measure: Callable[[Namespace, int], Result]
    rows: Callable[[Result], Iterable[Row]]
    draw: Callable[[Result, Path], None] | None = None
    long: bool = False


def at_most(what: str, number: float, limit: float, unit: str = "", spread: str = "") -> Row:
    """A row with a target that must not be exceeded."""
    shown, most = f"{number:.2f}{unit}", f"<= {limit:g}{unit}"
    return Row(what, shown, spread, most, number <= limit)
