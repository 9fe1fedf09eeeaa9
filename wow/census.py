"""The connections that are open, counted by what they are about, when metrics are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

STATES = (
    "silent",
    "idle",
    "solving",
    "answering",
    "waiting for its turn",
    "not read by its peer",
    "closing",
)
"""See L{wow.server.GateProtocol.state}."""


class Stateful(Protocol):
    """A connection."""

    @property
    def state(self) -> str:
        """What it is about just now."""


class Census(Collector):
    """
    Goes through all connections, which takes some milliseconds for ten
    thousand; to keep count all the time would make each exchange dearer.
    """

    def __init__(self, connections: Iterable[Stateful]) -> None:
        self._connections = connections

    def collect(self) -> Iterable[Metric]:
        counts = Counter(connection.state for connection in self._connections)
        family = GaugeMetricFamily(
            "wow_connections_by_state",
            "Connections open now, by what they are about: silent (no frame yet), idle (between "
            "exchanges), solving (a challenge is out), answering (an answer is awaited).",
            labels=["state"],
        )
        for state in STATES:
            family.add_metric([state.replace(" ", "_")], counts[state])
        yield family
