"""
The metrics of many workers as those of one server.

What a worker has counted is kept when it is gone, so that no count ever goes
back. prometheus_client has a way of its own for many processes, files that all
of them write to; but these know nothing of gauges that are asked for their
value, and of collectors such as ours; they are as many as there ever were
processes, and looked for by the environment instead of handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from math import isfinite
from typing import Any

from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from wow.metrics import Over

_OWN = ("process_", "python_gc_", "wow_loop_turn_seconds")
"""Beginnings of the names of what is each process's own. They get its number as a label."""

_LIBRARY: Mapping[str, Over] = {
    "process_start_time_seconds": "max",
    "process_max_fds": "max",
    "python_info": "max",
    "wow_build": "max",
    "wow_configuration": "max",
}

_COUNTS = ("counter", "histogram")

_MERGE: Mapping[Over, Callable[[float, float], float]] = {
    "sum": lambda one, other: one + other,
    "max": max,
    "min": min,
}


class Sample(Struct, array_like=True, frozen=True):
    """One value."""

    name: str
    labels: dict[str, str]
    value: float


class Family(Struct, array_like=True, frozen=True):
    """
    The values of one metric.

    @ivar kind: as Prometheus calls it: counter, gauge, histogram, info.
    @ivar over: what many workers have of it together.
    """

    name: str
    kind: str
    text: str
    over: Over
    samples: list[Sample]


def read(registry: CollectorRegistry, over: Mapping[str, Over]) -> list[Family]:
    """
    Read the metrics of this process.

    @param over: of its gauges, see L{wow.metrics.Metrics}.
    """
    return [
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            over.get(metric.name, _LIBRARY.get(metric.name, "sum")),
            # Who makes a sample may give any number, a bool too, which JSON has apart.
            [Sample(s.name, s.labels, float(s.value)) for s in metric.samples if _tells(s)],
        )
        for metric in registry.collect()
    ]


def _tells(sample: Any) -> bool:
    # When a process began to count says nothing of what many counted, and what
    # is no number would spoil the sum.
    return isfinite(sample.value) and not sample.name.endswith("_created")


_Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""By the name of a sample and its labels."""


class _Sum:
    """The metrics of some processes, made one."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._values: dict[str, _Values] = {}

    def copy(self) -> _Sum:
        copy = _Sum()
        copy._families = dict(self._families)
        copy._values = {name: dict(values) for name, values in self._values.items()}
        return copy

    def add(self, families: Iterable[Family], label: str = "") -> None:
        """
        Add those of one process.

        @param label: its number, if it needs one.
        """
        for family in families:
            self._families[family.name] = family
            values = self._values.setdefault(family.name, {})
            own = {"worker": label} if label and family.name.startswith(_OWN) else {}
            merge = _MERGE[family.over]
            for sample in family.samples:
                key = (sample.name, tuple(sorted((sample.labels | own).items())))
                values[key] = merge(values[key], sample.value) if key in values else sample.value

    def metrics(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            metric = Metric(name, family.text, family.kind)
            for (sample, labels), value in self._values[name].items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


class Aggregate:
    """Everybody's metrics, collected as those of a registry are."""

    def __init__(self, own: Callable[[], Iterable[Family]]) -> None:
        """
        @param own: reads the metrics of this process.
        """
        self._own = own
        self._reports: dict[Hashable, tuple[str, list[Family]]] = {}
        self._past = _Sum()

    def report(self, worker: Hashable, number: int, families: list[Family]) -> None:
        """
        A worker has told its metrics.

        @param worker: stands for the process.
        @param number: of its place. There are so many, and any number of processes.
        """
        self._reports[worker] = str(number), families

    def forget(self, worker: Hashable) -> None:
        """A worker is gone. What it counted stays."""
        label, families = self._reports.pop(worker, ("", []))
        self._past.add([family for family in families if family.kind in _COUNTS], label)

    def collect(self) -> Iterable[Metric]:
        """The metrics of all, as if they were one process's."""
        total = self._past.copy()
        total.add(self._own())
        for label, families in self._reports.values():
            total.add(families, label)
        return total.metrics()
