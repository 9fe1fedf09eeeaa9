"""How the sources of quotes are doing, as metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from wow.breaker import State
from wow.quotes.service import Status


class SourceStates(Collector):
    """Asks when metrics are read, since a breaker's state changes with time alone."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        status = self._status()
        states = GaugeMetricFamily(
            "wow_quote_source_state",
            "1 for the state that the breaker of a source is in, else 0: open while the source is "
            "left alone after many failures.",
            labels=["source", "state"],
        )
        used = GaugeMetricFamily(
            "wow_quote_source_used",
            "1 for the source that quotes now come from, else 0.",
            labels=["source"],
        )
        for source in status.sources:
            used.add_metric([source.name], source.name == status.lives_from)
            for state in State:
                states.add_metric([source.name, state], source.state is state)
        yield states
        yield used
        yield GaugeMetricFamily(
            "wow_quotes_kept",
            "Quotes kept to be repeated when no fresh ones are left.",
            status.served,
        )
