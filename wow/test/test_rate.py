"""So many at once, and so many a second: a token bucket that takes one number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.rate import Rate


class Bucket:
    """Takes what may be taken."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = Rate(rate, burst)
        self.due = 0.0

    def take(self, now: float) -> bool:
        if self.rate.wait(self.due, now) > 0:
            return False
        self.due = self.rate.take(self.due, now)
        return True


class Taking(SynchronousTestCase):
    def test_burst_then_rate(self) -> None:
        bucket = Bucket(2.0, 3)
        self.assertEqual([bucket.take(1000.0) for _ in range(4)], [True, True, True, False])
        self.assertEqual([bucket.take(1000.5), bucket.take(1000.5)], [True, False])

    def test_patience_saves_up_no_more_than_the_burst(self) -> None:
        bucket = Bucket(2.0, 3)
        bucket.take(0.0)
        self.assertEqual([bucket.take(1e9) for _ in range(4)], [True, True, True, False])

    def test_wait_is_the_time_to_the_next(self) -> None:
        bucket = Bucket(2.0, 1)
        bucket.take(10.0)
        self.assertAlmostEqual(bucket.rate.wait(bucket.due, 10.25), 0.25, places=5)

    def test_more_than_the_burst_is_not_held_against_anyone(self) -> None:
        rate, due = Rate(2.0, 3), 0.0
        for _ in range(1000):
            due = rate.take(due, 10.0)
        self.assertAlmostEqual(rate.wait(due, 10.0), 0.5, places=5)

    def test_debt_is_held_against_one_as_far_as_told(self) -> None:
        rate, due = Rate(2.0, 3, debt=5), 0.0
        for _ in range(1000):
            due = rate.take(due, 10.0)
        self.assertAlmostEqual(rate.wait(due, 10.0), (5 * 3 - 3 + 1) / 2.0, places=5)

    def test_clock_set_back_locks_out_for_no_longer_than_the_burst_takes(self) -> None:
        rate = Rate(2.0, 3)
        due = rate.take(rate.take(0.0, 1000.0), 10.0)
        self.assertLessEqual(rate.wait(due, 10.0), 0.5 + 1e-5)

    @given(st.floats(0.01, 1000), st.integers(1, 100), st.lists(st.floats(0, 10), max_size=50))
    def test_never_more_than_burst_and_rate_allow(
        self, rate: float, burst: int, pauses: list[float]
    ) -> None:
        bucket, now, taken = Bucket(rate, burst), 1e6, 0
        for pause in pauses:
            now += pause
            taken += bucket.take(now)
        self.assertLessEqual(taken, burst + rate * sum(pauses) + 1e-3 * rate)

    @given(st.floats(0.01, 1000), st.integers(1, 100), st.integers(0, 200))
    def test_a_time_that_has_passed_says_nothing(self, rate: float, burst: int, n: int) -> None:
        limit = Rate(rate, burst)
        due = 0.0
        for _ in range(n):
            due = limit.take(due, 5.0)
        self.assertEqual(limit.wait(due, due) > 0, limit.wait(0.0, due) > 0)
