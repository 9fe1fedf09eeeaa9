"""The spent store of many machines, with a server in memory that runs the real scripts."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.breaker import Breaker
from wow.errors import Expired, Unavailable
from wow.logs import make_logger
from wow.metrics import Tally
from wow.pow.spent import ISpentStore, Unreachable
from wow.pow.spent_fallback import FallbackSpentStore
from wow.pow.spent_redis import RedisSpentStore
from wow.pow.spent_scripts import make_scripts
from wow.pow.spent_shared import SharedSet
from wow.redis.errors import REASONS
from wow.spread import Spread
from wow.test.fake_redis import LATE, LOST, NO_MEMORY, FakePool, FakeServer
from wow.test.spent_conformance import LATER, SKEW, START, TTL, Outcome, StoreConformance


def tallies() -> Mapping[str, Tally]:
    counter = Counter("failures", "Failures.", ["reason"], registry=None)
    return {reason: Tally(counter.labels(reason)) for reason in REASONS}


class Stores(SynchronousTestCase):
    """
    Machines with a store each, and a server that they share.

    @ivar now: what all clocks show.
    """

    def setUp(self) -> None:
        self.now = START
        self.clock = Clock()
        self.logged = io.StringIO()
        self.failures = tallies()
        self.server = FakeServer(lambda: self.now)

    def make(self, pool: FakePool, max_entries: int = 10_000, ahead_ms: int = 0) -> RedisSpentStore:
        """
        A machine's store.

        @param ahead_ms: how far its clock is ahead of the server's.
        """
        log = make_logger(self.logged, "info", "json")
        shared = SharedSet(
            "redis://somewhere",
            pool,
            make_scripts(),
            Breaker(self.clock, lambda: 0, threshold=1, cool_down=2),
            TTL + SKEW,
            self.failures,
            log,
        )
        return RedisSpentStore(
            shared,
            SKEW,
            max_entries,
            lambda: self.now + ahead_ms,
            self.clock,
            Spread(1.0),
            log,
        )

    def opened(self, max_entries: int = 10_000, ahead_ms: int = 0) -> RedisSpentStore:
        """A store that is connected, some time after it was made."""
        self.pool = FakePool(self.server)
        store = self.make(self.pool, max_entries, ahead_ms)
        store.open()
        self.connection = self.pool.connect()
        self.now += 1000
        return store

    def spend(self, store: ISpentStore, expiry_ms: int = LATER, number: int = 1) -> Outcome:
        """What comes of a token, at once."""
        outcome: list[Outcome] = []
        maybeDeferred(store.spend, expiry_ms, number.to_bytes(16, "big")).addCallbacks(
            outcome.append, lambda failure: outcome.append(type(failure.value))
        )
        return outcome[0]

    def purge(self, store: RedisSpentStore | FallbackSpentStore) -> bool:
        return self.successResultOf(store.purge(self.now - SKEW))

    def events(self, name: str) -> int:
        return self.logged.getvalue().count(f'"{name}"')


class RedisStore(StoreConformance, Stores):
    """It keeps the promises of every store."""

    def setUp(self) -> None:
        Stores.setUp(self)

    def make_store(self) -> ISpentStore:
        self.server.scores.clear()
        self.pool = FakePool(self.server)
        return self.make(self.pool)

    def make_ready(self, store: ISpentStore) -> None:
        self.pool.connect()

    opened = StoreConformance.opened  # type: ignore[assignment]
    spend = Stores.spend
    purge = StoreConformance.purge  # type: ignore[assignment]


class Losing(Stores):
    """What a server has lost, or may have, is covered by the mark."""

    def test_flushed(self) -> None:
        store = self.opened()
        self.spend(store)
        self.server.scores.clear()
        self.assertIs(self.spend(store), Expired)
        self.assertEqual(store.mark, self.now + TTL + SKEW)
        self.assertIs(self.spend(store, store.mark + 1), True)
        self.assertEqual(self.events("spent_mark_moved"), 2)

    def test_member_lost(self) -> None:
        for member in (b"mark", b"run"):
            store = self.opened()
            token = store.mark + 1
            self.spend(store, token)
            del self.server.scores[member]
            self.assertIs(self.spend(store, token), Expired, member)

    def test_restarted_with_all_but_the_last(self) -> None:
        store = self.opened()
        kept = dict(self.server.scores)
        self.spend(store)
        self.server.scores = kept
        self.server.restart()
        self.pool.end()
        self.pool.connect()
        self.assertIs(self.spend(store), Expired)

    def test_put_back_behind_the_mark_last_seen(self) -> None:
        store = self.opened()
        self.spend(store, LATER)
        kept = dict(self.server.scores)
        self.spend(store, LATER + 1)
        self.now = LATER + 2 + SKEW
        self.purge(store)
        self.server.scores = kept
        self.assertIs(self.spend(store, LATER + 1), Expired)

    def test_lost_together_with_the_time(self) -> None:
        store = self.opened()
        self.now += 10 * TTL
        self.purge(store)
        token = self.now + TTL
        self.spend(store, token)
        spent_at = self.now
        self.server.scores.clear()
        for self.now in (START, spent_at):
            self.assertIs(self.spend(store, token), Expired)

    def test_lost_while_the_mark_is_ahead_of_the_clock(self) -> None:
        # New tokens are then made to expire one above the mark.
        for kept in (True, False):
            self.now = START + 20 * TTL * kept
            store = self.opened()
            self.now += 10 * TTL
            self.server.scores.clear()
            self.spend(store)
            self.now -= 10 * TTL
            marks = dict(self.server.scores)
            token = store.mark + 1
            self.assertIs(self.spend(store, token), True)
            self.server.restart()
            self.server.scores = marks if kept else {}
            self.pool.end()
            # One that has seen nothing of it must find it in what is kept.
            again = self.opened() if kept else store
            self.pool.connect()
            self.assertIs(self.spend(again, token), Expired, kept)

    def test_one_that_went_on_with_the_old_master(self) -> None:
        # What it spends there, once others are on the new one, gets lost.
        old, new = self.server, FakeServer(lambda: self.now)
        late = self.opened()
        old_pool = self.pool
        new.scores = dict(old.scores)
        self.server = new
        quick = self.opened()
        self.now += 2 * TTL
        token = self.now + TTL
        self.assertIs(self.spend(late, token), True)
        old_pool.server = new
        old_pool.end()
        old_pool.connect()
        for store in (late, quick):
            self.assertIs(self.spend(store, token), Expired)

    def test_connections_to_the_old_master_are_ended(self) -> None:
        store = self.opened()
        old, self.pool.server = self.connection, FakeServer(lambda: self.now)
        self.pool.connect()
        self.assertNotIn(old, self.pool.connections)
        self.assertIs(self.spend(store, store.mark + 1), True)
        self.assertEqual(len(old.server.scores), 2)

    def test_restart_moves_the_mark_once_for_each_machine(self) -> None:
        store, pool = self.opened(), self.pool
        self.opened()
        self.server.restart()
        for each in (pool, self.pool):
            each.end()
            each.connect()
            each.connect()
        self.assertEqual(self.events("spent_mark_moved"), 1 + 2)
        self.purge(store)
        self.assertIs(self.spend(store, store.mark + 1), True)

    def test_another_machine_that_comes_late_learns_the_mark(self) -> None:
        first = self.opened()
        second = self.opened()
        self.assertEqual(first.mark, second.mark)
        self.assertEqual(self.events("spent_mark_moved"), 1)

    def test_mark_moved_by_another_is_learnt_within_a_second(self) -> None:
        first, second = self.opened(), self.opened()
        self.server.scores.clear()
        self.spend(first)
        self.assertLess(second.mark, first.mark)
        self.purge(second)
        self.assertEqual(second.mark, first.mark)

    def test_set_that_changes_without_end(self) -> None:
        store = self.opened()
        run = self.server.run

        def flush_and_run(*args: object) -> list[int]:
            answer = run(*args)  # type: ignore[arg-type]
            self.server.scores.clear()
            return answer

        self.patch(self.server, "run", flush_and_run)
        self.server.scores.clear()
        self.assertIs(self.spend(store), Unreachable)

    def test_run_whose_number_is_small(self) -> None:
        self.server.run_id = "0" * 40
        store = self.opened()
        self.now += 10 * TTL
        self.purge(store)
        self.assertIs(self.spend(store, self.now + TTL), True)
        self.assertEqual(self.events("spent_mark_moved"), 1)

    def test_server_that_does_not_say_who_it_is(self) -> None:
        store = self.opened()
        self.pool.end()
        self.server.run_id = ""
        self.pool.connect()
        self.assertIn("run_id", str(store.trouble))
        self.assertIs(self.spend(store), Unreachable)


class Clocks(Stores):
    """Expiries are judged by the server's clock."""

    def test_token_of_a_machine_whose_clock_is_far_ahead(self) -> None:
        # A mark made anew would not cover it, and it would be kept for long.
        store = self.opened(ahead_ms=10**6)
        self.assertIs(self.spend(store, self.now + TTL + SKEW + 1), Expired)
        self.assertIs(self.spend(store, self.now + TTL + SKEW), True)

    def test_purge_by_a_machine_whose_clock_is_far_ahead(self) -> None:
        store = self.opened()
        self.spend(store)
        self.successResultOf(store.purge(LATER + 10**6))
        self.assertIs(self.spend(store), False)

    def test_purge_by_a_machine_whose_clock_is_behind(self) -> None:
        store = self.opened()
        self.spend(store)
        self.now = LATER + 10 * TTL
        self.successResultOf(store.purge(LATER))
        self.assertEqual(store.count(), 1)

    def test_clock_that_is_off_is_trouble(self) -> None:
        for ahead_ms, trouble in ((SKEW, False), (SKEW + 1, True), (-SKEW - 1, True)):
            store = self.opened(ahead_ms=ahead_ms)
            self.purge(store)
            self.assertEqual("clock" in str(store.trouble), trouble, ahead_ms)
            self.assertEqual(store.status()["clock_ahead"], ahead_ms / 1000)

    def test_what_the_answer_took_is_not_held_against_a_clock(self) -> None:
        store = self.opened(ahead_ms=SKEW)
        self.connection.hold()
        purging = store.purge(self.now)
        asked_at = self.now
        self.server.now_ms = lambda: asked_at
        self.now += 1500
        self.clock.advance(1.5)
        self.connection.release()
        self.successResultOf(purging)
        self.assertIsNone(store.trouble)


class Failing(Stores):
    """A server that does not do what it is asked keeps nobody waiting, and is told of once."""

    def test_not_connected_yet(self) -> None:
        store = self.make(FakePool(self.server))
        store.open()
        self.assertIs(self.spend(store), Unreachable)
        self.assertEqual(store.trouble, "not connected: not yet")
        self.assertFalse(store.reachable)

    def test_unreachable_is_unavailable_to_clients(self) -> None:
        refused = Unreachable(retry_after=1)
        self.assertIsInstance(refused, Unavailable)
        self.assertEqual((refused.code, refused.closes), ("unavailable", False))

    def test_cannot_connect_at_first(self) -> None:
        store = self.opened()
        pool = FakePool(self.server)
        store = self.make(pool)
        store.open()
        for _ in range(3):
            pool.end("Connection was refused by other side.")
        self.assertIn("refused", str(store.trouble))
        self.assertEqual(self.events("spent_store_unusable"), 1)
        pool.connect()
        self.assertIsNone(store.trouble)
        self.assertIs(self.spend(store), True)

    def test_connection_lost(self) -> None:
        store = self.opened()
        self.pool.end()
        self.assertIs(self.spend(store), Unreachable)
        self.assertEqual(store.trouble, "not connected: Connection was closed cleanly.")
        self.assertIs(self.purge(store), False)
        self.pool.connect()
        self.assertIs(self.spend(store), True)

    def test_answer_lost(self) -> None:
        # The token counts as spent, and the server is well.
        store = self.opened()
        self.connection.failure, self.connection.deaf = LOST, False
        self.assertIs(self.spend(store), Unreachable)
        self.assertEqual(self.failures["lost"].count, 1)
        self.connection.failure = None
        self.assertIs(self.spend(store), False)

    def test_late_server_is_left_alone(self) -> None:
        store = self.opened()
        self.connection.failure = LATE
        self.assertIs(self.spend(store), Unreachable)
        self.connection.failure = None
        for _ in range(10):
            self.assertIs(self.spend(store), Unreachable)
            self.assertIs(self.purge(store), False)
        self.assertEqual(self.failures["late"].count, 1)
        self.assertEqual(store.trouble, "no answer within 0.5 seconds")
        self.assertEqual(store.status()["breaker"], "open")

    def test_late_server_is_tried_by_the_purge_alone(self) -> None:
        store = self.opened()
        self.connection.failure = LATE
        self.spend(store)
        self.clock.advance(2)
        self.assertIs(self.spend(store), Unreachable)
        self.assertEqual(self.failures["late"].count, 1)
        self.purge(store)
        self.assertEqual(self.failures["late"].count, 2)
        self.clock.advance(2)
        self.connection.failure = None
        self.purge(store)
        self.assertIsNone(store.trouble)
        self.assertIs(self.spend(store), True)

    def test_many_late_at_once_count_once_for_the_breaker(self) -> None:
        store = self.opened()
        self.connection.hold()
        spending = [store.spend(LATER, bytes([number] * 16)) for number in range(10)]
        self.connection.failure = LATE
        self.connection.release()
        for each in spending:
            self.failureResultOf(each, Unreachable)
        self.clock.advance(2)
        self.connection.failure = None
        self.purge(store)
        self.assertIs(self.spend(store), True)

    def test_new_connection_shows_that_a_late_server_is_well(self) -> None:
        store = self.opened()
        self.connection.failure = LATE
        self.spend(store)
        self.pool.end()
        self.pool.connect()
        self.assertIsNone(store.trouble)
        self.assertIs(self.spend(store), True)

    def test_server_that_declines(self) -> None:
        store = self.opened()
        self.connection.failure = NO_MEMORY
        self.assertIs(self.spend(store), Unreachable)
        self.assertIn("OOM", str(store.trouble))
        self.assertFalse(store.reachable)
        self.assertEqual(self.failures["declined"].count, 1)
        self.connection.failure = None
        self.assertIs(self.spend(store), True)

    def test_trouble_lasts_while_spending_is_declined(self) -> None:
        # A server short of memory still purges.
        store = self.opened()
        for _ in range(5):
            self.connection.failure = NO_MEMORY
            self.spend(store)
            self.connection.failure = None
            self.purge(store)
            self.assertIn("OOM", str(store.trouble))
        self.purge(store)
        self.assertIsNone(store.trouble)
        self.assertEqual(self.events("spent_store_unusable"), 1)
        self.assertEqual(self.events("spent_store_usable"), 2)

    def test_too_many_under_way(self) -> None:
        store = self.opened()
        self.connection.in_flight = 1000
        self.assertIs(self.spend(store), Unavailable)
        self.assertEqual(self.failures["crowded"].count, 1)
        self.assertIsNone(store.trouble)

    def test_full(self) -> None:
        store = self.opened(max_entries=3)
        outcomes = [self.spend(store, LATER, number) for number in range(4)]
        self.assertEqual(outcomes, [True, True, True, Unavailable])
        self.assertEqual(store.trouble, "full")
        self.assertTrue(store.reachable)
        self.purge(store)
        self.assertEqual(store.trouble, "full")
        self.now = LATER + SKEW + 1
        self.purge(store)
        self.assertIsNone(store.trouble)
        self.assertIs(self.spend(store, LATER + 1), True)

    def test_nothing_is_said_of_connections_that_end_with_it(self) -> None:
        store = self.opened()
        self.successResultOf(store.close())
        self.pool.end()
        self.assertTrue(self.pool.stopped)
        self.assertEqual(self.events("spent_store_unusable"), 0)

    def test_server_that_may_evict(self) -> None:
        store = self.opened()
        for policy, bound, warned in (
            ("noeviction", "1000", 0),
            ("volatile-lru", "1000", 0),
            ("allkeys-lru", "0", 0),
            ("allkeys-lru", "1000", 1),
            ("allkeys-lru", "1000", 1),
        ):
            self.server.says = {"maxmemory_policy": policy, "maxmemory": bound}
            self.pool.end()
            self.pool.connect()
            self.assertEqual(self.events("spent_store_may_be_evicted"), warned)
        self.assertEqual(store.status()["evicts"], "allkeys-lru")


class Recording(Stores):
    def test_recorded_tokens_are_spent(self) -> None:
        store = self.opened()
        tokens = [(LATER, bytes([number] * 16)) for number in range(3)]
        self.successResultOf(store.record(tokens))
        self.successResultOf(store.record(tokens))
        self.assertEqual(self.successResultOf(store.spend(*tokens[0])), False)
        self.purge(store)
        self.assertEqual(store.count(), 3)

    def test_not_connected(self) -> None:
        store = self.opened()
        self.pool.end()
        self.failureResultOf(store.record([(LATER, bytes(16))]), Unreachable)


Step = tuple[str, int, int]


def steps(*names: str, passing: tuple[int, int] = (0, TTL)) -> st.SearchStrategy[list[Step]]:
    """Courses that things take: what machines do, what befalls them, and time."""
    machines = st.integers(0, 3)
    return st.lists(
        st.one_of(
            st.tuples(st.just("issue"), machines, st.just(0)),
            st.tuples(st.sampled_from(["redeem", "redeem"]), machines, st.integers(0, 5)),
            st.tuples(st.just("purge"), machines, st.just(0)),
            st.tuples(st.just("wait"), st.integers(*passing), st.just(0)),
            st.tuples(st.sampled_from(names), machines, st.integers(0, 1)),
        ),
        max_size=40,
    )


class World:
    """Four machines, two with clocks that differ as much as is allowed, one with one far off."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.ahead = (0, SKEW, -SKEW, 3_600_000)
        self.machines = []
        self.pools = []
        for ahead_ms in self.ahead:
            self.machines.append(stores.opened(ahead_ms=ahead_ms))
            self.pools.append(stores.pool)
        self.kept = dict(stores.server.scores)
        self.tokens: list[tuple[int, int]] = []
        self.numbers = itertools.count()
        self.handed: list[tuple[int, int]] = []

    def take(self, step: Step) -> None:
        name, *values = step
        getattr(self, name)(*values)

    def issue(self, machine: int, _: int) -> None:
        now_ms = self.stores.now + self.ahead[machine]
        expiry_ms = max(now_ms + TTL, self.machines[machine].mark + 1)
        self.tokens.append((expiry_ms, next(self.numbers)))

    def redeem(self, machine: int, back: int) -> None:
        if not self.tokens:
            return
        token = self.tokens[-1 - back % len(self.tokens)]
        if self.stores.now + self.ahead[machine] > token[0] + SKEW:
            return
        if self.stores.spend(self.machines[machine], *token) is True:
            self.handed.append(token)

    def purge(self, machine: int, _: int) -> None:
        before_ms = self.stores.now + self.ahead[machine] - SKEW
        self.stores.successResultOf(self.machines[machine].purge(before_ms))

    def wait(self, ms: int, _: int) -> None:
        self.stores.now += ms
        self.stores.clock.advance(abs(ms) / 1000)

    def keep(self, _: int, __: int) -> None:
        self.kept = dict(self.stores.server.scores)

    def flush(self, _: int, __: int) -> None:
        self.stores.server.scores.clear()

    def restart(self, _: int, __: int) -> None:
        self.stores.server.restart()
        for pool in self.pools:
            pool.end()

    def lose(self, _: int, __: int) -> None:
        """A restart, or another server in its place, without what came last."""
        self.stores.server.scores = dict(self.kept)
        self.restart(0, 0)

    def reconnect(self, machine: int, _: int) -> None:
        self.pools[machine].end()
        self.pools[machine].connect()

    def lose_answers(self, machine: int, deaf: int) -> None:
        for connection in self.pools[machine].connections:
            connection.failure, connection.deaf = LATE, bool(deaf)


class AnyCourse(Stores):
    def run_through(self, course: list[Step]) -> World:
        self.setUp()
        world = World(self)
        for step in course:
            world.take(step)
        self.assertEqual(len(set(world.handed)), len(world.handed))
        return world

    @given(steps("keep", "flush", "restart", "lose", "reconnect", "lose_answers"))
    def test_no_token_is_handed_out_twice(self, course: list[Step]) -> None:
        world = self.run_through(course)
        # Whatever happened, new tokens are good once all are connected again
        # and have looked at the mark.
        for machine in range(3):
            world.reconnect(machine, 0)
        for machine in range(3):
            world.purge(machine, 0)
            world.handed.clear()
            world.issue(machine, 0)
            world.redeem((machine + 1) % 3, 0)
            self.assertEqual(world.handed, world.tokens[-1:])

    @given(steps("restart", "reconnect", "lose_answers", passing=(-3 * TTL, 3 * TTL)))
    def test_nor_when_clocks_are_set_back(self, course: list[Step]) -> None:
        self.run_through(course)
