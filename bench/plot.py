"""Pictures of what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

COLOURS = {"wow": "#1f6fb4", "bare": "#8a8a8a", "raw": "#c9a227", "go": "#2a9d8f"}

Percentiles = Mapping[str, float]
"""Microseconds, by the percentage as text."""


def draw_latencies(panels: Mapping[str, Mapping[str, Percentiles]], path: Path) -> None:
    """
    Write a picture of how long exchanges took.

    @param panels: by what it says above, the lines by their names.
    """
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, grid = pyplot.subplots(
        rows, columns, sharex=True, sharey=True, squeeze=False, figsize=(5 * columns, 3.2 * rows)
    )
    for axes, (title, lines) in zip(grid.flat, panels.items(), strict=False):
        axes.set_title(title, fontsize=10)
        for name, percentiles in lines.items():
            axes.plot(*_points(percentiles), color=COLOURS.get(name), label=name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    grid[0, 0].set_yscale("log")
    grid[0, 0].yaxis.set_major_formatter("{x:g}")
    grid[0, 0].set_xticks([_place(each) for each in _TICKS], [f"{each:g}" for each in _TICKS])
    figure.supxlabel("percent of the exchanges", fontsize=10)
    figure.supylabel("took at most so many ms", fontsize=10)
    save(figure, path)


_TICKS = (0, 50, 90, 99, 99.9, 99.99)


def _place(percent: float) -> float:
    # As far to the right as there are nines, so that the tail can be seen.
    return -math.log10(1 - percent / 100)


def _points(percentiles: Percentiles) -> tuple[list[float], list[float]]:
    shown = [(float(text), value) for text, value in percentiles.items() if text != "100"]
    return [_place(percent) for percent, _ in shown], [value / 1000 for _, value in shown]


def draw_costs(kinds: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """
    Write a picture of what exchanges cost.

    @param kinds: by kind of load, microseconds by server.
    """
    figure, axes = pyplot.subplots(figsize=(8, 3))
    names = list(next(iter(kinds.values())))
    for index, name in enumerate(names):
        places = [place + index / (len(names) + 1) for place in range(len(kinds))]
        bars = axes.bar(
            places,
            [costs[name] for costs in kinds.values()],
            width=1 / (len(names) + 1),
            color=COLOURS.get(name),
            label=name,
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
    middle = (len(names) - 1) / 2 / (len(names) + 1)
    axes.set_xticks([place + middle for place in range(len(kinds))], list(kinds))
    axes.margins(y=0.12)
    axes.set_ylabel("CPU per exchange, us")
    axes.legend(fontsize=8)
    save(figure, path)


def draw_course(places: Sequence[float], curves: Mapping[str, Sequence[float]], path: Path) -> None:
    """
    Write a picture of how things went.

    @param places: millions of exchanges.
    @param curves: what was seen at them, by what it is.
    """
    figure, grid = pyplot.subplots(len(curves), 1, sharex=True, figsize=(8, 2 * len(curves)))
    for axes, (what, numbers) in zip(grid, curves.items(), strict=True):
        axes.plot(places, numbers, color=COLOURS["wow"])
        axes.set_ylabel(what, fontsize=8)
        axes.set_ylim(0, 1.15 * max(numbers))
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.grid(alpha=0.3)
    grid[-1].set_xlabel("millions of exchanges")
    figure.align_ylabels()
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a picture, with its background, and nothing in it of when or by what."""
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(
        path,
        dpi=100,
        facecolor="white",
        metadata={"Software": None} if path.suffix == ".png" else None,
    )
    pyplot.close(figure)
