"""A source is asked at a pace that is good for it."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.breaker import Breaker, State


class Breaking(SynchronousTestCase):
    """Every transition of the breaker, by the clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.jitter = 0.0
        self.breaker = Breaker(self.clock, lambda: self.jitter, 10.0, threshold=3, cool_down=60.0)

    def rests(self, seconds: float) -> None:
        """It is not ready until just that many seconds have passed."""
        self.assertAlmostEqual(self.breaker.rest, seconds)
        self.clock.advance(seconds - 0.01)
        self.assertFalse(self.breaker.ready())
        self.clock.advance(0.02)
        self.assertTrue(self.breaker.ready())
        self.assertEqual(self.breaker.rest, 0)

    def open(self) -> None:
        for _ in range(3):
            self.breaker.failed()

    def state(self) -> tuple[State, bool]:
        return self.breaker.state, self.breaker.failing

    def test_begins_closed(self) -> None:
        """The first attempt may be made at once."""
        self.assertTrue(self.breaker.ready())
        self.assertEqual(self.state(), (State.CLOSED, False))

    def test_rests_after_success(self) -> None:
        """After a success the source rests for its interval, and stays well."""
        self.breaker.succeeded()
        self.assertEqual(self.state(), (State.CLOSED, False))
        self.rests(10)

    def test_no_interval(self) -> None:
        """A source without an interval can be asked again at once."""
        breaker = Breaker(self.clock, lambda: 0.0)
        breaker.succeeded()
        self.assertTrue(breaker.ready())

    def test_rests_longer_after_each_failure(self) -> None:
        """Failures in a row make it rest for longer each time, while it is closed."""
        self.breaker.failed()
        self.assertEqual(self.state(), (State.CLOSED, True))
        self.rests(1)
        self.breaker.failed()
        self.assertEqual(self.state(), (State.CLOSED, True))
        self.rests(1.5)

    def test_jitter(self) -> None:
        """The rest after a failure is longer by the jitter."""
        self.jitter = 0.75
        self.breaker.failed()
        self.rests(1.75)

    def test_success_forgets_failures(self) -> None:
        """Only failures in a row count."""
        for _ in range(5):
            self.breaker.failed()
            self.breaker.failed()
            self.breaker.succeeded()
        self.assertEqual(self.state(), (State.CLOSED, False))
        self.breaker.failed()
        self.rests(1)

    def test_opens(self) -> None:
        """As many failures in a row as the threshold open it, for the cool-down."""
        self.open()
        self.assertEqual(self.state(), (State.OPEN, True))
        self.rests(60)

    def test_half_open(self) -> None:
        """After the cool-down it is ready for a trial."""
        self.open()
        self.clock.advance(60)
        self.assertEqual(self.state(), (State.HALF_OPEN, True))
        self.assertTrue(self.breaker.ready())

    def test_trial_succeeds(self) -> None:
        """A trial that succeeds closes it; it takes the whole threshold to open it again."""
        self.open()
        self.clock.advance(60)
        self.breaker.succeeded()
        self.assertEqual(self.state(), (State.CLOSED, False))
        self.rests(10)
        self.breaker.failed()
        self.breaker.failed()
        self.assertEqual(self.state(), (State.CLOSED, True))

    def test_trial_fails(self) -> None:
        """A trial that fails opens it for another cool-down, as often as it takes."""
        self.open()
        for _ in range(200):
            self.clock.advance(60)
            self.assertEqual(self.breaker.state, State.HALF_OPEN)
            self.breaker.failed()
            self.assertEqual(self.breaker.state, State.OPEN)
        self.rests(60)

    def test_defaults(self) -> None:
        """Five failures open it, for a minute."""
        breaker = Breaker(self.clock, lambda: 0.0)
        for _ in range(4):
            breaker.failed()
        self.assertEqual((breaker.state, breaker.rest), (State.CLOSED, 1.5**3))
        breaker.failed()
        self.assertEqual((breaker.state, breaker.rest), (State.OPEN, 60))
