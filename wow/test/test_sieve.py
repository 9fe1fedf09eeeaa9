"""Who is turned away too often is held back, for longer each time, and let out."""

from __future__ import annotations

import io
import json
import socket
from errno import EPERM
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow import sieve
from wow.logs import make_logger
from wow.packet_filter import MOST, assemble
from wow.pow.token import bind
from wow.sieve import Sieve

BITS = (32, 64)
RATE, PERIOD = 40.0, 0.25

OFTEN = int(RATE * PERIOD) + 1
"""Times in a period that are too many."""


def client(number: int) -> bytes:
    return bind(number.to_bytes(4, "big"), *BITS)


MALLORY, TRENT = client(1), client(2)


class Port:
    """
    A listening socket.

    @ivar program: what is attached; empty if nothing is.
    @ivar changes: how often that changed.
    @ivar refuses: whether nothing can be attached.
    """

    def __init__(self, family: int = socket.AF_INET) -> None:
        self.family = family
        self.program = b""
        self.changes = 0
        self.refuses = self.closed = False

    def fileno(self) -> int:
        return -1 if self.closed else 3

    def attach(self, program: bytes) -> None:
        if self.refuses or self.closed:
            raise OSError(EPERM, "Operation not permitted")
        self.detach()
        self.program = program

    def detach(self) -> None:
        self.changes += 1
        self.program = b""


class Sieves(SynchronousTestCase):
    rate = RATE

    def setUp(self) -> None:
        self.patch(sieve, "attach", Port.attach)
        self.patch(sieve, "detach", Port.detach)
        self.clock, self.logged, self.chance = Clock(), io.StringIO(), 0.0
        log = make_logger(self.logged, "info", "json")
        self.sieve = Sieve(BITS, self.rate, self.clock, lambda: self.chance, log)
        self.port = self.added()
        self.sieve.startService()
        self.clock.advance(PERIOD)

    def added(self, family: int = socket.AF_INET) -> Any:
        port: Any = Port(family)
        self.sieve.add(port)
        return port

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.logged.getvalue().splitlines()]

    def turn_away(self, prefix: bytes, times: int = OFTEN) -> None:
        for _ in range(times):
            self.sieve.turned_away(prefix)

    def offend(self, *prefixes: bytes) -> None:
        """Be turned away too often, and be seen."""
        for prefix in prefixes:
            self.turn_away(prefix)
        self.clock.advance(PERIOD)

    def holds(self, *prefixes: bytes) -> None:
        self.assertEqual(self.sieve.held, len(prefixes))
        self.assertEqual(self.port.program, assemble(prefixes, BITS) if prefixes else b"")

    def held_for(self, seconds: float) -> None:
        """Whether one is let out only after so long."""
        self.clock.pump([1.0] * (int(seconds) - 1))
        self.assertEqual(self.sieve.held, 1)
        self.clock.pump([PERIOD] * 5)
        self.assertEqual(self.sieve.held, 0)


class Holding(Sieves):
    def test_who_is_turned_away_too_often_is_held(self) -> None:
        self.turn_away(TRENT, OFTEN - 1)
        self.offend(MALLORY)
        self.holds(MALLORY)

    def test_each_period_counts_by_itself(self) -> None:
        for _ in range(10):
            self.turn_away(TRENT, OFTEN - 1)
            self.clock.advance(PERIOD)
        self.holds()

    def test_a_late_look_has_counted_for_longer(self) -> None:
        self.turn_away(TRENT, 2 * OFTEN - 2)
        self.turn_away(MALLORY, 2 * OFTEN)
        self.clock.advance(2 * PERIOD)
        self.holds(MALLORY)

    def test_let_out_after_a_time_that_chance_sets(self) -> None:
        self.offend(MALLORY)
        self.held_for(10)
        self.holds()
        self.chance = 1.0
        self.offend(TRENT)
        self.held_for(20)

    def test_twice_as_long_each_time_and_then_no_longer(self) -> None:
        for seconds in (10, 20, 40, 80, 160, 300, 300):
            self.offend(MALLORY)
            self.held_for(seconds)

    def test_what_was_still_queued_is_no_offence(self) -> None:
        self.offend(MALLORY)
        self.offend(MALLORY)
        self.held_for(10)
        self.offend(MALLORY)
        self.held_for(20)

    def test_who_comes_again_while_held_is_let_out_when_he_would_have_been(self) -> None:
        self.offend(MALLORY)
        self.clock.pump([PERIOD] * 19)
        self.offend(MALLORY)
        self.held_for(5)

    def test_no_more_than_the_kernel_takes_and_the_worst_first(self) -> None:
        for number in range(MOST + 10):
            self.turn_away(client(number), OFTEN + number)
        self.clock.advance(PERIOD)
        self.holds(*[client(number) for number in reversed(range(10, MOST + 10))])
        self.offend(client(0))
        self.assertEqual(self.sieve.held, MOST)

    def test_the_program_is_replaced_only_when_it_changes(self) -> None:
        self.offend(MALLORY)
        changes = self.port.changes
        self.clock.pump([PERIOD] * 20)
        self.assertEqual(self.port.changes, changes)


class Forgetting(Sieves):
    def test_strangers_are_counted_up_to_a_bound(self) -> None:
        self.turn_away(MALLORY, 1)
        for number in range(10, 20_000):
            self.sieve.turned_away(client(number))
        self.assertEqual(len(self.sieve._counts), 10_000)
        self.offend(MALLORY)
        self.holds(MALLORY)

    def test_past_offenders_are_forgotten_in_the_order_of_their_release(self) -> None:
        for group in range(5):
            first = 10 + group * MOST
            self.offend(*[client(first + number) for number in range(MOST)])
            self.clock.pump([PERIOD] * 45)
            self.holds()
        self.assertEqual(len(self.sieve._past), 1000)
        self.offend(client(10))
        self.held_for(10)
        self.offend(client(10 + 5 * MOST - 1))
        self.held_for(20)

    def test_pardon_lets_all_out_and_tells(self) -> None:
        self.offend(MALLORY, TRENT)
        self.sieve.pardon()
        self.holds()
        self.assertEqual([event["clients"] for event in self.events()], [2, 0])

    def test_pardon_forgets_who_was_held_before(self) -> None:
        self.offend(MALLORY)
        self.held_for(10)
        self.sieve.pardon()
        self.offend(MALLORY)
        self.held_for(10)

    def test_pardon_forgets_what_was_counted(self) -> None:
        self.turn_away(MALLORY)
        self.sieve.pardon()
        self.clock.advance(PERIOD)
        self.holds()


class Ports(Sieves):
    def test_all_are_kept_from(self) -> None:
        second = self.added(socket.AF_INET6)
        self.offend(MALLORY)
        late = self.added()
        self.assertEqual(second.program, self.port.program)
        self.assertEqual(late.program, self.port.program)

    def test_unix_sockets_are_left_alone(self) -> None:
        port = self.added(socket.AF_UNIX)
        self.offend(MALLORY)
        self.assertEqual(port.changes, 0)

    def test_closed_ones_are_forgotten(self) -> None:
        self.added().closed = True
        self.offend(MALLORY)
        self.holds(MALLORY)

    def test_a_kernel_that_does_not_do_it_is_asked_once(self) -> None:
        other = self.added()
        other.refuses = True
        self.offend(MALLORY)
        self.holds()
        other.refuses = False
        self.offend(TRENT)
        self.holds()
        (event,) = self.events()
        self.assertEqual((event["event"], event["level"]), ("sieve_off", "warning"))
        self.assertIn("not permitted", event["reason"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.sieve._counts), 0)

    def test_what_was_counted_before_the_kernel_refused_is_forgotten(self) -> None:
        self.offend(MALLORY)
        self.turn_away(TRENT)
        late: Any = Port()
        late.refuses = True
        self.sieve.add(late)
        self.clock.advance(PERIOD)
        self.holds()
        self.assertEqual([event["event"] for event in self.events()], ["sieve", "sieve_off"])


class Off(Sieves):
    """At a rate of 0."""

    rate = 0.0

    def test_does_not_even_look(self) -> None:
        self.sieve.stopService()
        self.sieve.startService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_is_counted_or_held(self) -> None:
        self.offend(MALLORY)
        self.holds()
        self.assertEqual(len(self.sieve._counts), 0)
        self.assertEqual((self.port.changes, self.clock.getDelayedCalls()), (0, []))


class Running(Sieves):
    def test_sleeps_while_there_is_nothing_to_see(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.offend(MALLORY)
        self.held_for(10)
        self.clock.advance(PERIOD)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_looks_once_for_all(self) -> None:
        self.turn_away(MALLORY)
        self.turn_away(TRENT)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_stopping_lets_all_out(self) -> None:
        self.offend(MALLORY)
        self.sieve.stopService()
        self.holds()
        self.assertEqual(self.port.program, b"")
        self.turn_away(MALLORY)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopping_while_asleep(self) -> None:
        self.sieve.stopService()
        self.assertEqual(self.port.changes, 0)

    def test_what_was_counted_before_the_start_is_seen(self) -> None:
        self.sieve.stopService()
        self.turn_away(MALLORY)
        self.sieve.startService()
        self.clock.advance(PERIOD)
        self.holds(MALLORY)

    def test_a_line_when_it_begins_and_when_it_is_over(self) -> None:
        self.offend(MALLORY, client(7))
        self.clock.advance(5.0)
        self.offend(TRENT)
        self.clock.pump([PERIOD] * 60)
        told = [(event["event"], event["clients"]) for event in self.events()]
        self.assertEqual(told, [("sieve", 2), ("sieve", 0)])

    def test_a_bug_is_told_and_does_not_stop_it(self) -> None:
        def fail(*_: object) -> bytes:
            raise ZeroDivisionError

        with_patch = self.patch(sieve, "assemble", fail)
        self.offend(MALLORY)
        with_patch.restore()
        self.assertEqual(self.events()[-1]["event"], "sieve_failed")
        self.offend(TRENT)
        self.holds(MALLORY, TRENT)
