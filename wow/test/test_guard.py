"""Who is admitted, and what each client, and each network, may do."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.clients import Clients
from wow.conduct import STEP
from wow.errors import RateLimited
from wow.guard import Allowance, Guard, Lists, Scope, TurnedAway, Visitor
from wow.pow.token import bind, pack
from wow.rate import Rate

ALICE, NEIGHBOUR, MALLORY = "192.0.2.7", "192.0.2.8", "203.0.113.1"
PLENTY = Rate(10.0**6, 10**6)


def allowance(
    connections: int = 10**6,
    connecting: Rate = PLENTY,
    asking: Rate = PLENTY,
    failing: Rate = PLENTY,
) -> Allowance:
    return Allowance(connections, connecting, asking, failing)


class Guarded(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.clients = Clients(1000)
        self.networks = Clients(1000)
        self.lists = Lists(frozenset(), frozenset())

    def guard(self, network: Allowance | None = None, **limits: Any) -> Guard:
        scopes = [Scope(allowance(**limits), self.clients, {5: 5, 17: 17})]
        if network is not None:
            scopes.append(Scope(network, self.networks, {5: 4, 17: 7}))
        return Guard(self.lists, tuple(scopes))

    def admit(self, guard: Guard, address: str | None = ALICE) -> Visitor:
        packed = pack(address)
        return guard.admit(packed, bind(packed), self.clock.seconds())

    def assertTurnedAway(
        self, reason: str, guard: Guard, address: str | None = ALICE
    ) -> TurnedAway:
        away: TurnedAway = self.assertRaises(TurnedAway, self.admit, guard, address)
        self.assertEqual(away.reason, reason)
        return away


class Connections(Guarded):
    def test_up_to_a_number_for_each_client(self) -> None:
        guard = self.guard(connections=2)
        self.admit(guard)
        self.admit(guard)
        self.assertTurnedAway("connections", guard)
        self.admit(guard, NEIGHBOUR)

    def test_place_of_a_lost_one_is_free(self) -> None:
        guard = self.guard(connections=1)
        guard.leave(self.admit(guard))
        self.admit(guard)

    def test_burst_then_rate(self) -> None:
        guard = self.guard(connecting=Rate(2.0, 3))
        for _ in range(3):
            guard.leave(self.admit(guard))
        away = self.assertTurnedAway("connection_rate", guard)
        self.assertAlmostEqual(away.retry_after, 0.5, places=5)
        self.clock.advance(0.5)
        self.admit(guard)

    def test_turned_away_costs_nothing_more(self) -> None:
        guard = self.guard(connecting=Rate(2.0, 1))
        self.admit(guard)
        for _ in range(100):
            self.assertTurnedAway("connection_rate", guard)
        self.clock.advance(0.5)
        self.admit(guard)

    def test_turned_away_is_not_remembered(self) -> None:
        guard = self.guard(connections=0)
        self.assertTurnedAway("connections", guard)
        self.assertEqual(len(self.clients), 0)


class Changing(Guarded):
    """Another allowance holds at once, for those who are there already too."""

    def test_what_is_known_stays_known(self) -> None:
        guard = self.guard(allowance(connections=5), connections=3)
        for _ in range(3):
            visitor = self.admit(guard)
        self.assertTurnedAway("connections", guard)
        guard.allow([allowance(connections=4), allowance(connections=5)])
        self.admit(guard)
        self.assertTurnedAway("connections", guard)
        guard.leave(visitor)
        guard.allow([allowance(connections=2), allowance(connections=5)])
        self.assertTurnedAway("connections", guard)
        guard.allow([allowance(), allowance(connections=3)])
        self.assertTurnedAway("connections", guard)


class Failures(Guarded):
    def test_too_many_end_in_being_turned_away(self) -> None:
        guard = self.guard(failing=Rate(1.0, 3))
        visitor = self.admit(guard)
        self.assertEqual(
            [guard.failed(visitor, self.clock.seconds()) for _ in range(4)],
            [False, False, False, True],
        )
        self.assertTurnedAway("failures", guard)
        self.admit(guard, NEIGHBOUR)

    def test_forgiven_at_their_rate(self) -> None:
        guard = self.guard(failing=Rate(1.0, 3))
        visitor = self.admit(guard)
        for _ in range(100):
            guard.failed(visitor, self.clock.seconds())
        self.clock.advance(1)
        self.admit(guard)

    def test_raise_the_price(self) -> None:
        guard = self.guard()
        visitor = self.admit(guard)
        for _ in range(int(STEP)):
            guard.failed(visitor, self.clock.seconds())
        self.assertEqual(guard.ask(visitor, self.clock.seconds()), 1)
        self.assertEqual(guard.ask(self.admit(guard, NEIGHBOUR), self.clock.seconds()), 0)


class Challenges(Guarded):
    def test_burst_then_rate(self) -> None:
        guard = self.guard(asking=Rate(2.0, 3))
        visitor = self.admit(guard)
        for _ in range(3):
            guard.ask(visitor, self.clock.seconds())
        limited = self.assertRaises(RateLimited, guard.ask, visitor, self.clock.seconds())
        self.assertEqual(limited.retry_after, 0.5)
        self.clock.advance(0.5)
        guard.ask(visitor, self.clock.seconds())
        self.assertRaises(RateLimited, guard.ask, visitor, self.clock.seconds())

    def test_counted_over_all_connections_of_a_client(self) -> None:
        guard = self.guard(asking=Rate(2.0, 1))
        guard.ask(self.admit(guard), self.clock.seconds())
        self.assertRaises(RateLimited, guard.ask, self.admit(guard), self.clock.seconds())
        guard.ask(self.admit(guard, NEIGHBOUR), self.clock.seconds())

    def test_refused_ones_cost_nothing(self) -> None:
        guard = self.guard(asking=Rate(1.0, 1))
        visitor = self.admit(guard)
        guard.ask(visitor, self.clock.seconds())
        for _ in range(100):
            self.assertRaises(RateLimited, guard.ask, visitor, self.clock.seconds())
        self.clock.advance(1)
        guard.ask(visitor, self.clock.seconds())

    def test_without_redemption_raise_the_price(self) -> None:
        guard = self.guard()
        visitor = self.admit(guard)
        levels = [guard.ask(visitor, self.clock.seconds()) for _ in range(2 * int(STEP) + 1)]
        self.assertEqual((levels[0], levels[-1]), (0, 2))

    def test_redeemed_do_not(self) -> None:
        guard = self.guard()
        visitor = self.admit(guard)
        for _ in range(1000):
            self.assertEqual(guard.ask(visitor, self.clock.seconds()), 0)
            guard.redeemed(visitor, self.clock.seconds())

    @given(st.lists(st.floats(0, 10), max_size=50))
    def test_no_more_than_burst_and_rate_allow(self, pauses: list[float]) -> None:
        self.clients = Clients(1000)
        guard = self.guard(asking=Rate(2.0, 3))
        visitor, taken = self.admit(guard), 0
        for pause in pauses:
            self.clock.advance(pause)
            try:
                guard.ask(visitor, self.clock.seconds())
            except RateLimited as limited:
                self.assertIsNotNone(limited.retry_after)
            else:
                taken += 1
        self.assertLessEqual(taken, 3 + 2.0 * sum(pauses) + 1e-3)


class ANetwork(Guarded):
    def test_is_one_neighbour_among_others(self) -> None:
        guard = self.guard(allowance(connections=3))
        for number in range(3):
            self.admit(guard, f"192.0.2.{number}")
        self.assertTurnedAway("connections", guard, "192.0.2.200")
        self.admit(guard, "192.0.3.1")

    def test_place_of_a_lost_one_is_free(self) -> None:
        guard = self.guard(allowance(connections=1))
        for address in (ALICE, NEIGHBOUR, ALICE):
            guard.leave(self.admit(guard, address))

    def test_of_ipv6(self) -> None:
        guard = self.guard(allowance(connections=1))
        self.admit(guard, "2001:db8:1:1::1")
        self.assertTurnedAway("connections", guard, "2001:db8:1:2::1")
        self.admit(guard, "2001:db8:2:1::1")

    def test_asks_no_faster_than_it_may(self) -> None:
        guard = self.guard(allowance(asking=Rate(1.0, 2)))
        guard.ask(self.admit(guard, ALICE), self.clock.seconds())
        guard.ask(self.admit(guard, NEIGHBOUR), self.clock.seconds())
        self.assertRaises(
            RateLimited, guard.ask, self.admit(guard, "192.0.2.9"), self.clock.seconds()
        )
        guard.ask(self.admit(guard, MALLORY), self.clock.seconds())

    def test_failures_count_for_it_too(self) -> None:
        guard = self.guard(allowance(failing=Rate(1.0, 2)))
        for address in (ALICE, NEIGHBOUR):
            guard.failed(self.admit(guard, address), self.clock.seconds())
        self.assertTurnedAway("failures", guard, ALICE)

    def test_its_failures_do_not_bind_who_has_none(self) -> None:
        guard = self.guard(allowance(failing=Rate(1.0, 1)))
        guard.failed(self.admit(guard, ALICE), self.clock.seconds())
        self.admit(guard, NEIGHBOUR)

    def test_neighbours_requests_are_no_fault_of_a_client(self) -> None:
        guard = self.guard(allowance(asking=Rate(1.0, 1)), asking=Rate(1.0, 1))
        guard.ask(self.admit(guard, NEIGHBOUR), self.clock.seconds())
        visitor = self.admit(guard, ALICE)
        limited = self.assertRaises(RateLimited, guard.ask, visitor, self.clock.seconds())
        self.assertFalse(limited.fault)
        self.clock.advance(1)
        guard.ask(visitor, self.clock.seconds())
        limited = self.assertRaises(RateLimited, guard.ask, visitor, self.clock.seconds())
        self.assertTrue(limited.fault)

    def test_failures_count_for_it_even_when_they_are_too_many_for_the_client(self) -> None:
        guard = self.guard(allowance(failing=Rate(1.0, 4)), failing=Rate(1.0, 2))
        visitor = self.admit(guard, ALICE)
        for _ in range(3):
            guard.failed(visitor, self.clock.seconds())
        guard.failed(self.admit(guard, NEIGHBOUR), self.clock.seconds())
        self.assertTurnedAway("failures", guard, NEIGHBOUR)

    def test_neighbours_do_not_pay_for_each_other(self) -> None:
        guard = self.guard(allowance())
        visitor = self.admit(guard, ALICE)
        for _ in range(1000):
            guard.failed(visitor, self.clock.seconds())
        self.assertEqual(guard.ask(self.admit(guard, NEIGHBOUR), self.clock.seconds()), 0)

    def test_turned_away_by_it_is_not_counted_for_the_client(self) -> None:
        guard = self.guard(allowance(connections=0))
        self.assertTurnedAway("connections", guard)
        self.assertEqual((len(self.clients), len(self.networks)), (0, 0))


class WhomTheOperatorKnows(Guarded):
    def test_denied_are_turned_away(self) -> None:
        self.lists = Lists(frozenset(), frozenset([pack(MALLORY)]))
        guard = self.guard()
        self.assertTurnedAway("denied", guard, MALLORY)
        self.admit(guard, ALICE)

    def test_nothing_limits_the_allowed(self) -> None:
        self.lists = Lists(frozenset([pack(ALICE)]), frozenset())
        guard = self.guard(connections=0, asking=Rate(1.0, 1), failing=Rate(1.0, 1))
        visitor = self.admit(guard, ALICE)
        for _ in range(100):
            self.assertEqual(guard.ask(visitor, self.clock.seconds()), 0)
            self.assertFalse(guard.failed(visitor, self.clock.seconds()))
        guard.redeemed(visitor, self.clock.seconds())
        guard.leave(visitor)
        self.assertEqual(len(self.clients), 0)

    def test_allowing_is_stronger_than_denying(self) -> None:
        self.lists = Lists(frozenset([pack(ALICE)]), frozenset([pack(ALICE)]))
        self.admit(self.guard(), ALICE)

    def test_lists_can_be_replaced(self) -> None:
        guard = self.guard()
        self.admit(guard, MALLORY)
        guard.lists = Lists(frozenset(), frozenset([pack(MALLORY)]))
        self.assertTurnedAway("denied", guard, MALLORY)

    def test_client_without_an_address_is_let_through(self) -> None:
        guard = self.guard(connections=0)
        visitor = self.admit(guard, None)
        for _ in range(10):
            guard.ask(visitor, self.clock.seconds())
        self.assertEqual(len(self.clients), 0)
