"""The metrics of many processes add up, and no count goes back when one of them ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from twisted.trial.unittest import SynchronousTestCase

from wow.metrics import Metrics
from wow.workers.aggregate import Aggregate, Family, Sample, read
from wow.workers.control import WORDS, Report, frame


class Process:
    """A worker's metrics, as it tells them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.metrics = Metrics()

    def families(self) -> list[Family]:
        return read(self.metrics.registry, self.metrics.over)


def samples(aggregate: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus reads."""
    text = generate_latest(aggregate).decode()
    found: dict[Any, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


class Flag(Collector):
    """A metric whose maker takes a bool for a number, which Python allows."""

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("flag", "Whether it is so.", True)


class Told(SynchronousTestCase):
    def test_whatever_number_travels_as_one(self) -> None:
        registry = CollectorRegistry()
        registry.register(Flag())
        report = Report(1, True, {}, read(registry, {}))
        heard = WORDS.decode(frame(report)[4:])
        assert isinstance(heard, Report) and heard.metrics is not None
        self.assertEqual(heard.metrics[0].samples, [Sample("flag", {}, 1.0)])

    def test_what_is_no_number_does_not(self) -> None:
        registry = CollectorRegistry()
        for name, value in (("none", float("nan")), ("endless", float("inf")), ("one", 1.0)):
            Gauge(name, "-", registry=registry).set(value)
        told = [sample for family in read(registry, {}) for sample in family.samples]
        self.assertEqual(told, [Sample("one", {}, 1.0)])


class Adding(SynchronousTestCase):
    def setUp(self) -> None:
        self.parent = Process(0)
        self.aggregate = Aggregate(list)
        self.processes = [Process(1), Process(2)]

    def report(self) -> None:
        for process in self.processes:
            self.aggregate.report(process, process.number, process.families())

    def value(self, name: str, **labels: str) -> float | None:
        return samples(self.aggregate).get((name, tuple(sorted(labels.items()))))

    def test_counts(self) -> None:
        self.processes[0].metrics.requests.count = 3
        self.processes[1].metrics.requests.count = 4
        self.report()
        self.assertEqual(self.value("wow_requests_total", type="request"), 7)

    def test_label_that_only_one_has(self) -> None:
        self.processes[0].metrics.quotes_taken("zenquotes").count += 1
        self.processes[1].metrics.quotes_taken("collection").count += 2
        self.report()
        self.assertEqual(self.value("wow_quotes_taken_total", source="zenquotes"), 1)
        self.assertEqual(self.value("wow_quotes_taken_total", source="collection"), 2)

    def test_durations(self) -> None:
        for process in self.processes:
            process.metrics.issue_duration.observe(0.002)
        self.report()
        kind = {"type": "request"}
        name = "wow_answer_duration_seconds"
        self.assertEqual(self.value(f"{name}_count", **kind), 2)
        self.assertEqual(self.value(f"{name}_sum", **kind), 0.004)
        self.assertEqual(self.value(f"{name}_bucket", le="0.001", **kind), 0)
        self.assertEqual(self.value(f"{name}_bucket", le="0.0025", **kind), 2)

    def test_gauges(self) -> None:
        for process, value in zip(self.processes, (3, 4), strict=True):
            process.metrics.connections.set(value)
            process.metrics.price.set(value)
            process.metrics.spent_usable.set(value)
        self.report()
        self.assertEqual(self.value("wow_connections"), 7)
        self.assertEqual(self.value("wow_price_hashes"), 4)
        self.assertEqual(self.value("wow_spent_usable"), 3)

    def test_what_is_each_processes_own_has_its_number(self) -> None:
        self.report()
        name = "process_cpu_seconds_total"
        self.assertIsNone(self.value(name))
        self.assertIsNotNone(self.value(name, worker="1"))
        self.assertIsNotNone(self.value(name, worker="2"))
        self.assertEqual(self.value("wow_build_info", version="0.1.0"), 1)

    def test_the_parents_own_has_none(self) -> None:
        self.aggregate = Aggregate(self.parent.families)
        self.report()
        self.assertIsNotNone(self.value("process_cpu_seconds_total"))
        self.assertIsNotNone(self.value("process_cpu_seconds_total", worker="1"))

    def test_the_latest_report_counts(self) -> None:
        for count in (3, 5):
            self.processes[0].metrics.requests.count = count
            self.report()
        self.assertEqual(self.value("wow_requests_total", type="request"), 5)

    def test_of_who_is_gone_the_counts_stay_and_the_rest_goes(self) -> None:
        self.processes[0].metrics.requests.count = 3
        self.processes[0].metrics.connections.set(3)
        self.report()
        self.aggregate.forget(self.processes[0])
        self.assertEqual(self.value("wow_requests_total", type="request"), 3)
        self.assertEqual(self.value("wow_connections"), 0)

    def test_also_when_nobody_is_left(self) -> None:
        self.processes[0].metrics.requests.count = 3
        self.report()
        for process in self.processes:
            self.aggregate.forget(process)
        self.assertEqual(self.value("wow_requests_total", type="request"), 3)

    def test_who_never_reported_may_go(self) -> None:
        self.aggregate.forget(self.processes[0])
        self.assertEqual(samples(self.aggregate), {})

    def test_thousands_who_are_gone_take_no_room(self) -> None:
        self.report()
        many = len(samples(self.aggregate))
        families = self.processes[0].families()
        for process in range(2000):
            self.aggregate.report(process, 1, families)
            self.aggregate.forget(process)
        self.assertEqual(len(samples(self.aggregate)), many)


class Replacing(RuleBasedStateMachine):
    """Workers count, tell, die and are replaced; somebody looks now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.parent = Process(0)
        self.aggregate = Aggregate(self.parent.families)
        self.processes = [Process(1), Process(2)]
        self.seen: dict[Any, float] = {}
        self.told = dict.fromkeys(self.processes, 0)
        self.past = 0

    @rule(index=st.integers(0, 1), count=st.integers(0, 5))
    def count(self, index: int, count: int) -> None:
        metrics = self.processes[index].metrics
        metrics.requests.count += count
        metrics.issue_duration.observe(count / 1000)
        metrics.quote_fetches.labels(f"source-{count}", "ok").inc()

    @rule(index=st.integers(0, 1))
    def tell(self, index: int) -> None:
        process = self.processes[index]
        self.told[process] = process.metrics.requests.count
        self.aggregate.report(process, process.number, process.families())

    @rule(index=st.integers(0, 1))
    def replace(self, index: int) -> None:
        gone = self.processes[index]
        self.past += self.told.pop(gone)
        self.aggregate.forget(gone)
        self.processes[index] = Process(index + 1)
        self.told[self.processes[index]] = 0

    @rule()
    def look(self) -> None:
        seen = samples(self.aggregate)
        for key, value in self.seen.items():
            if key[0].endswith(("_total", "_count", "_bucket")):
                assert seen[key] >= value, key
        self.seen = seen
        total = seen["wow_requests_total", (("type", "request"),)]
        assert total == self.past + sum(self.told.values())


class Replaced(SynchronousTestCase):
    def test_no_count_goes_back(self) -> None:
        run_state_machine_as_test(Replacing, settings=settings(max_examples=20))


class Rules(SynchronousTestCase):
    def test_each_gauge_has_one(self) -> None:
        metrics = Metrics()
        ours = {m.name for m in metrics.registry.collect() if m.type == "gauge"}
        known = {name for name in ours if name.startswith("wow_")}
        self.assertEqual(known, set(metrics.over))
