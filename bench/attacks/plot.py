"""A picture of an attack: what honest clients waited and were asked, what the server used."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

from bench.attacks.arena import Course

matplotlib.use("Agg")
from matplotlib import pyplot

_SERVED, _UNSERVED, _SHADE = "#1f6fb4", "#d62728", "#f0e6d2"
_CPU, _MEMORY, _PRICE = "#2a7f3f", "#8452a1", "#b36a00"


def draw(course: Course, path: Path) -> None:
    """Write the picture of an attack, with a background of its own."""
    figure, (waits, price, use) = pyplot.subplots(
        3, 1, sharex=True, figsize=(9, 7), height_ratios=(3, 2, 2), facecolor="white"
    )
    figure.suptitle(f"{course.attack.name}: {course.attack.idea}", fontsize=10, wrap=True)
    for axes in (waits, price, use):
        axes.axvspan(0, course.relieved - course.attacked, color=_SHADE, zorder=0)
        axes.grid(alpha=0.3)
    _draw_waits(waits, course)
    _draw_price(price, course)
    _draw_use(use, course)
    use.set_xlabel("seconds since the attack began")
    figure.align_ylabels()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def _since(course: Course, times: Iterable[float]) -> list[float]:
    return [at - course.attacked for at in times]


def _draw_waits(axes: Any, course: Course) -> None:
    for served, colour, marker in ((True, _SERVED, "."), (False, _UNSERVED, "x")):
        chosen = [record for record in course.records if record.served is served]
        if not chosen:
            continue
        axes.scatter(
            _since(course, (record.scheduled for record in chosen)),
            # What is not above zero has no place on this scale.
            [max(0.1, record.wait * 1000) for record in chosen],
            s=10,
            c=colour,
            marker=marker,
            label=f"{'served' if served else 'not served'} ({len(chosen)})",
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_ylabel("honest clients'\nwait beyond solving, ms")
    axes.legend(loc="upper right", fontsize=8)


def _draw_price(axes: Any, course: Course) -> None:
    known = [sample for sample in course.samples if sample.price is not None]
    times = _since(course, (sample.at for sample in known))
    paid = [record for record in course.records if record.paid]
    axes.scatter(
        _since(course, (record.scheduled for record in paid)),
        [record.paid for record in paid],
        s=5,
        c=_SERVED,
        label="asked of honest clients",
    )
    prices = [sample.price for sample in known]
    axes.step(times, prices, where="post", color=_PRICE, label="asked of a stranger")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("price, hashes")
    axes.legend(loc="upper left", fontsize=8)


def _draw_use(axes: Any, course: Course) -> None:
    samples = course.samples
    pairs = list(pairwise(samples))
    times = _since(course, (later.at for _, later in pairs))
    shares = [100 * (later.cpu - sooner.cpu) / (later.at - sooner.at) for sooner, later in pairs]
    axes.plot(times, shares, color=_CPU)
    axes.set_ylim(0, 110)
    axes.set_ylabel("server's CPU, %", color=_CPU)
    memory = axes.twinx()
    everywhen = _since(course, (sample.at for sample in samples))
    memory.plot(everywhen, [sample.memory for sample in samples], color=_MEMORY)
    memory.set_ylim(0, 1.25 * max((sample.memory for sample in samples), default=1.0))
    memory.set_ylabel("server's memory, MiB", color=_MEMORY)
