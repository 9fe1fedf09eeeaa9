"""
C{python -m wow.admin.metrics_page}: the page of all metrics, made of what they
say of themselves.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from wow.breaker import State
from wow.census import Census
from wow.loop import LoopMeter
from wow.metrics import Metrics
from wow.outcomes import Outcomes
from wow.quotes.service import SourceStatus, Status
from wow.quotes.states import SourceStates

_OPEN = {
    "endpoint": "the endpoint's key in the configuration, such as `listen.0`",
    "hash": "8 hex digits",
    "id": "8 hex digits, as in tokens; as many as there are keys",
    "source": "the source's name in the configuration",
    "version": "of wow",
}
"""Labels whose values depend on the server. Nothing that a client sends is one."""

_HEAD = """\
# Metrics

What `/metrics` of the operators' site shows, in Prometheus' format. This page is made by
`make metrics` of what the server says itself. What to do when one of them is not as it should be
is in [operations.md](operations.md#alerts), the rules that say so in
[deploy/prometheus](../deploy/prometheus), a dashboard in [deploy/grafana](../deploy/grafana).

Of a histogram there are `_bucket`, `_sum` and `_count`. `process_*`, `python_gc_*` and
`python_info` are those of
[prometheus_client](https://prometheus.github.io/client_python/collector/): memory, CPU time,
descriptors and garbage collection of the process. The lag of the event loop is
`wow_loop_turn_seconds`, as whatever is due waits for one turn at most.

| metric | type | meaning | labels |
| --- | --- | --- | --- |
"""


def page() -> str:
    """The page, in Markdown."""
    families = (metric for metric in _specimen().collect() if metric.name.startswith("wow_"))
    return _HEAD + "".join(sorted(_row(metric) for metric in families))


def _specimen() -> CollectorRegistry:
    """The metrics of a server with one of everything."""
    metrics = Metrics()
    metrics.certificate_expiry.labels("listen.0")
    metrics.configuration.info({"hash": ""})
    metrics.quotes_taken("collection")
    for role in ("signs", "verifies"):
        metrics.keys.labels(role, role)
    metrics.key_created.labels("")
    for outcome in ("ok", "failed"):
        metrics.quote_fetches.labels("collection", outcome)
    source = SourceStatus("collection", State.CLOSED, None)
    status = Status("collection", 0, 0, (source,))
    for collector in (LoopMeter(time.monotonic), Census(()), SourceStates(lambda: status)):
        metrics.registry.register(collector)
    Outcomes(metrics.registry, time.time)
    return metrics.registry


def _row(metric: Metric) -> str:
    suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
    kind = "gauge" if metric.type == "info" else metric.type
    labels = "; ".join(_labels(metric))
    return f"| `{metric.name}{suffix}` | {kind} | {metric.documentation} | {labels} |\n"


def _labels(metric: Metric) -> Iterable[str]:
    values: dict[str, dict[str, None]] = {}
    for sample in metric.samples:
        for label, value in sample.labels.items():
            if label != "le":
                values.setdefault(label, {})[value] = None
    for label, seen in values.items():
        yield f"`{label}`: {_OPEN.get(label) or ', '.join(seen)}"


if __name__ == "__main__":
    sys.stdout.write(page())
