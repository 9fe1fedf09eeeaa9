"""What was measured, for people: a table in the terminal, and one in the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bench import page
from bench.cases import ALL
from bench.cases.case import Result, Row

Results = dict[str, Result]
"""What was measured, by case."""

_BEGIN = "<!-- Made by make bench and make soak; changes from here on are lost. -->"
_END = "<!-- The end of what is made. -->"
_SKELETON = f"""# Performance

What wow costs, against its targets. `make bench` and `make soak` make the figures anew.

{_BEGIN}
{_END}
"""
_WITH_TARGET = ("what", "measured", "range", "target", "met")
_WITHOUT = ("what else was seen", "measured")


def table(results: Mapping[str, Result]) -> str:
    """Results for the terminal."""
    return "\n\n".join(_aligned(lines) for lines in _tables(results))


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _tables(results: Mapping[str, Result]) -> Iterator[list[tuple[str, ...]]]:
    """What has a target, and what has none, each below its headings; an empty one is left out."""
    rows = [row for name, result in results.items() for row in ALL[name].rows(result["figures"])]
    aimed = [
        (row.what, row.measured, row.spread, row.target, _met(row)) for row in rows if row.target
    ]
    seen = [(row.what, row.measured) for row in rows if not row.target]
    if aimed:
        yield [_WITH_TARGET, *aimed]
    if seen:
        yield [_WITHOUT, *seen]


def _met(row: Row) -> str:
    return "yes" if row.met else "NO"


def keep(results: Results, directory: Path) -> None:
    """
    Bring the documentation up to date with new results; others stay.

    @param directory: where C{performance.md} is or is to be, and C{performance/results.json}.
    """
    place = directory / "performance" / "results.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    kept: Results = json.loads(place.read_text()) if place.exists() else {}
    kept.update(results)
    ordered = {name: kept[name] for name in ALL if name in kept}
    place.write_text(json.dumps(ordered, indent=1) + "\n")
    for name in results:
        _draw(name, results[name], directory / "performance")
    page.replace(directory / "performance.md", _BEGIN, _END, _markdown(ordered), _SKELETON)


def _draw(name: str, result: Result, directory: Path) -> None:
    draw = ALL[name].draw
    if draw is not None:
        draw(result["figures"], directory / f"{name}.png")


def _markdown(results: Results) -> Iterator[str]:
    for headings, *rows in _tables(results):
        yield from map(_line, (headings, ["---"] * len(headings), *rows))
        yield ""
    for machine in sorted({result["machine"] for result in results.values()}):
        names = [name for name, result in results.items() if result["machine"] == machine]
        yield f"{', '.join(names)}: on {machine}."
    for name in results:
        if ALL[name].draw is not None:
            yield ""
            yield f"![{ALL[name].idea}](performance/{name}.png)"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
