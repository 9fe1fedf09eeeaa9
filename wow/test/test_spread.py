"""A histogram for the hot path says what prometheus_client's would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from twisted.trial.unittest import SynchronousTestCase

from wow.spread import Milliseconds, Spread, Spreads

BOUNDS = (0.5, 1.0, 10.0)


class LikeTheLibrarys(SynchronousTestCase):
    @given(st.lists(st.one_of(st.floats(0, 20), st.sampled_from(BOUNDS))))
    def test_same_samples(self, values: list[float]) -> None:
        ours, theirs = CollectorRegistry(), CollectorRegistry()
        spread = Spread(*BOUNDS)
        ours.register(Spreads("sizes", "Sizes.", "type", {"big": spread}))
        library = Histogram("sizes", "Sizes.", ["type"], buckets=BOUNDS, registry=theirs)
        for value in values:
            spread.observe(value)
            library.labels("big").observe(value)
        library.labels("big")
        for le in ("0.5", "1.0", "10.0", "+Inf"):
            labels = {"type": "big", "le": le}
            self.assertEqual(
                ours.get_sample_value("sizes_bucket", labels),
                theirs.get_sample_value("sizes_bucket", labels),
            )
        for name in ("sizes_count", "sizes_sum"):
            self.assertEqual(
                ours.get_sample_value(name, {"type": "big"}),
                theirs.get_sample_value(name, {"type": "big"}),
            )

    def test_without_a_label(self) -> None:
        registry = CollectorRegistry()
        spread = Spread(*BOUNDS)
        registry.register(Spreads("sizes", "Sizes.", None, {"": spread}))
        spread.observe(0.7)
        self.assertEqual(registry.get_sample_value("sizes_bucket", {"le": "1.0"}), 1)
        self.assertEqual(registry.get_sample_value("sizes_sum"), 0.7)


class InMilliseconds(SynchronousTestCase):
    @given(st.lists(st.one_of(st.integers(0, 2**20), st.sampled_from([0, 1, 2**17 - 1, 2**17]))))
    def test_is_a_spread_over_doubling_bounds(self, durations: list[int]) -> None:
        ours, plain = Milliseconds(), Spread(*((2**bits - 1) / 1000 for bits in range(18)))
        for duration in durations:
            ours.count(duration)
            plain.observe(duration / 1000)
        self.assertEqual(ours.buckets, plain.buckets)
        self.assertAlmostEqual(ours.sum, plain.sum)
