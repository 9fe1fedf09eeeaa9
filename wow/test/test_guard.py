"""Connections are admitted up to a number, and requests up to a rate a client."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.clients import Clients
from wow.errors import Busy, RateLimited
from wow.guard import Guard
from wow.pow.token import UNBOUND, bind

ALICE = bind("192.0.2.7")
MALLORY = bind("192.0.2.8")


class Guarded(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clients = Clients(1000)

    def guard(self, max_connections: int = 2, rate: float = 2.0, burst: int = 3) -> Guard:
        return Guard(max_connections, rate, burst, self.clients, self.clock)


class Connections(Guarded):
    def test_up_to_a_number(self) -> None:
        guard = self.guard(max_connections=2)
        guard.admit()
        guard.admit()
        busy = self.assertRaises(Busy, guard.admit)
        self.assertIsNotNone(busy.retry_after)
        self.assertEqual(guard.connections, 2)

    def test_place_of_a_lost_one_is_free(self) -> None:
        guard = self.guard(max_connections=1)
        guard.admit()
        guard.release()
        guard.admit()


class Rates(Guarded):
    def test_burst_then_rate(self) -> None:
        guard = self.guard(rate=2.0, burst=3)
        for _ in range(3):
            guard.charge(ALICE)
        limited = self.assertRaises(RateLimited, guard.charge, ALICE)
        self.assertEqual(limited.retry_after, 0.5)
        self.clock.advance(0.5)
        guard.charge(ALICE)
        self.assertRaises(RateLimited, guard.charge, ALICE)

    def test_each_client_has_its_own(self) -> None:
        guard = self.guard(burst=1)
        guard.charge(MALLORY)
        self.assertRaises(RateLimited, guard.charge, MALLORY)
        guard.charge(ALICE)

    def test_patience_saves_up_no_more_than_the_burst(self) -> None:
        guard = self.guard(burst=3)
        guard.charge(ALICE)
        self.clock.advance(1000)
        for _ in range(3):
            guard.charge(ALICE)
        self.assertRaises(RateLimited, guard.charge, ALICE)

    def test_refused_requests_cost_nothing(self) -> None:
        guard = self.guard(rate=1.0, burst=1)
        guard.charge(ALICE)
        for _ in range(100):
            self.assertRaises(RateLimited, guard.charge, ALICE)
        self.clock.advance(1)
        guard.charge(ALICE)

    def test_retry_after_is_the_time_to_one_whole_token(self) -> None:
        guard = self.guard(rate=2.0, burst=1)
        guard.charge(ALICE)
        self.clock.advance(0.25)
        limited = self.assertRaises(RateLimited, guard.charge, ALICE)
        self.assertEqual(limited.retry_after, 0.25)

    def test_clock_set_back_takes_nothing_away(self) -> None:
        guard = self.guard(rate=2.0, burst=3)
        guard.charge(ALICE)
        self.clock.rightNow -= 1000
        guard.charge(ALICE)
        guard.charge(ALICE)

    def test_client_without_an_address_is_let_through(self) -> None:
        guard = self.guard(burst=1)
        for _ in range(10):
            guard.charge(UNBOUND)
        self.assertEqual(len(self.clients), 0)

    @given(st.lists(st.floats(0, 10), max_size=50))
    def test_no_more_than_burst_and_rate_allow(self, pauses: list[float]) -> None:
        self.clients = Clients(1000)
        guard = self.guard(rate=2.0, burst=3)
        taken = 0
        for pause in pauses:
            self.clock.advance(pause)
            try:
                guard.charge(ALICE)
            except RateLimited as limited:
                self.assertIsNotNone(limited.retry_after)
            else:
                taken += 1
        self.assertLessEqual(taken, 3 + 2.0 * sum(pauses) + 1e-6)


class Table(SynchronousTestCase):
    def test_never_above_its_bound(self) -> None:
        clients = Clients(10)
        for number in range(100):
            clients.get(b"%d" % number, 1.0, 0.0)
        self.assertEqual(len(clients), 10)

    def test_forgets_whom_it_heard_of_longest_ago(self) -> None:
        clients = Clients(2)
        known = clients.get(b"known", 1.0, 0.0)
        clients.get(b"quiet", 1.0, 0.0)
        clients.get(b"known", 1.0, 0.0)
        clients.get(b"new", 1.0, 0.0)
        self.assertIs(clients.get(b"known", 1.0, 0.0), known)
