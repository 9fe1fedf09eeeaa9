"""A shared spent store with one on each machine that stands in for it."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter
from twisted.internet.defer import Deferred, fail, maybeDeferred

from wow.errors import Expired, Unavailable
from wow.logs import make_logger
from wow.metrics import Tally
from wow.pow.spent import CannotOpen, ISpentStore, MemorySpentStore, Unreachable
from wow.pow.spent_fallback import FallbackSpentStore
from wow.test.fake_redis import LATE, LOST, FakePool
from wow.test.spent_conformance import LATER, SKEW, START, TTL, StoreConformance
from wow.test.test_spent_redis import Stores

BEFORE = START - 10 * TTL
"""When the machines' own stores began."""


class Machine:
    """
    A machine with its own store.

    @ivar store: the two, as one.
    """

    def __init__(self, stores: Stores, pool: FakePool, local: MemorySpentStore) -> None:
        self.pool = pool
        self.local = local
        self.shared = stores.make(pool)
        self.alone = Tally(Counter("alone", "Spent alone.", registry=None))
        log = make_logger(stores.logged, "info", "json")
        self.store = FallbackSpentStore(self.shared, local, self.alone, log)

    def cut(self) -> None:
        self.pool.end("Connection was refused by other side.")

    def mend(self) -> None:
        self.pool.connect()


class Machines(Stores):
    def machine(self, local: MemorySpentStore | None = None) -> Machine:
        """A machine that was there for a while, connected; or one that has this store."""
        if local is None:
            local = MemorySpentStore(lambda: BEFORE, TTL)
        machine = Machine(self, FakePool(self.server), local)
        machine.store.open()
        machine.mend()
        return machine

    def setUp(self) -> None:
        super().setUp()
        self.one, self.other = self.machine(), self.machine()
        self.now += 1000


class FallbackStore(StoreConformance, Stores):
    """It keeps the promises of every store, while the shared one can be reached."""

    def setUp(self) -> None:
        Stores.setUp(self)

    def make_store(self) -> ISpentStore:
        self.server.scores.clear()
        self.machine = Machine(self, FakePool(self.server), MemorySpentStore(lambda: self.now, TTL))
        return self.machine.store

    def make_ready(self, store: ISpentStore) -> None:
        self.machine.mend()

    opened = StoreConformance.opened  # type: ignore[assignment]
    spend = Stores.spend
    purge = StoreConformance.purge  # type: ignore[assignment]


class Outage(Machines):
    """While the shared store is out of reach, each machine decides for itself."""

    def test_once_on_each_machine(self) -> None:
        for machine in (self.one, self.other):
            machine.cut()
            self.assertIs(self.spend(machine.store), True)
            self.assertIs(self.spend(machine.store), False)
            self.assertEqual(machine.alone.count, 1)
            self.assertIsNone(machine.store.trouble)

    def test_what_was_spent_before_is_known(self) -> None:
        self.assertIs(self.spend(self.one.store), True)
        self.one.cut()
        self.assertIs(self.spend(self.one.store), False)

    def test_not_afterwards_on_the_same_machine(self) -> None:
        self.one.cut()
        self.spend(self.one.store)
        self.one.mend()
        self.assertIs(self.spend(self.one.store), False)

    def test_not_afterwards_on_another(self) -> None:
        self.one.cut()
        self.spend(self.one.store)
        self.one.mend()
        self.purge(self.one.store)
        self.assertIs(self.spend(self.other.store), False)
        self.assertFalse(self.one.store.status()["owing"])

    def test_answer_that_came_too_late(self) -> None:
        # The shared store spent it, and so does this machine: once.
        connection = self.one.pool.connections[0]
        connection.failure, connection.deaf = LATE, False
        self.assertIs(self.spend(self.one.store), True)
        self.assertIs(self.spend(self.one.store), False)
        self.assertIs(self.spend(self.other.store), False)

    def test_race_into_an_outage(self) -> None:
        connection = self.one.pool.connections[0]
        connection.hold()
        spending = [maybeDeferred(self.one.store.spend, LATER, bytes(16)) for _ in range(2)]
        connection.failure = LOST
        connection.release()
        self.assertEqual([self.successResultOf(each) for each in spending], [True, False])

    def test_purge_goes_on(self) -> None:
        self.one.cut()
        self.spend(self.one.store)
        self.now = LATER + SKEW + 1
        self.purge(self.one.store)
        self.assertEqual(self.one.store.count(), 0)

    def test_new_tokens_are_good_at_the_machines_own_store(self) -> None:
        machine = self.machine(MemorySpentStore(lambda: self.now + 10 * TTL, TTL))
        shared_mark = self.server.scores[b"mark"]
        self.assertEqual(machine.store.mark, shared_mark)
        machine.cut()
        self.assertEqual(machine.store.mark, machine.local.mark)
        self.assertIs(self.spend(machine.store, machine.store.mark + 1), True)

    def test_tokens_older_than_the_machines_own_store(self) -> None:
        # It cannot know, so they are kept until the other can be asked.
        machine = self.machine(MemorySpentStore(lambda: LATER, TTL))
        machine.cut()
        self.assertIs(self.spend(machine.store), Unreachable)
        machine.mend()
        self.assertIs(self.spend(machine.store), True)

    def test_own_store_in_trouble(self) -> None:
        broken = mock.patch.object(self.one.local, "spend", side_effect=Unavailable(retry_after=1))
        broken.start()
        self.addCleanup(broken.stop)
        self.one.local.trouble = "No space left on device"
        self.assertIs(self.spend(self.one.store), True)
        self.assertIsNone(self.one.store.trouble)
        self.one.cut()
        self.assertIs(self.spend(self.one.store, LATER + 1), Unavailable)
        self.assertEqual(self.one.store.trouble, "No space left on device")

    def test_full_or_crowded_is_no_outage(self) -> None:
        # Otherwise whoever can fill the store could spend a proof on each machine.
        self.one.pool.connections[0].in_flight = 10**6
        self.assertIs(self.spend(self.one.store), Unavailable)
        self.one.pool.connections[0].in_flight = 0
        with mock.patch.object(self.server, "_zcard", return_value=10**6):
            self.assertIs(self.spend(self.one.store), Unavailable)
        self.assertIs(self.spend(self.one.store), True)

    def test_expired_is_no_outage(self) -> None:
        self.assertIs(self.spend(self.one.store, START), Expired)

    def test_status(self) -> None:
        self.assertEqual(self.one.store.status()["alone"], False)
        self.one.cut()
        self.spend(self.one.store)
        status = self.one.store.status()
        self.assertEqual((status["alone"], status["owing"]), (True, True))
        self.assertIn("refused", str(status["shared_trouble"]))


class Telling(Machines):
    """What was spent alone is told to the shared store once that is back."""

    def spend_alone(self, number: int) -> None:
        self.one.cut()
        for each in range(number):
            self.assertIs(self.spend(self.one.store, LATER + each % 3, each), True)
        self.one.mend()

    def spent_elsewhere(self, number: int) -> set[object]:
        return {self.spend(self.other.store, LATER + each % 3, each) for each in range(number)}

    def test_all_of_many(self) -> None:
        self.spend_alone(1234)
        self.purge(self.one.store)
        self.assertEqual(self.spent_elsewhere(1234), {False})
        self.assertIn('"tokens": 1234', self.logged.getvalue())

    def test_nothing_to_tell(self) -> None:
        self.spend(self.one.store)
        self.one.cut()
        self.one.mend()
        self.purge(self.one.store)
        self.assertEqual(self.events("spent_store_told"), 0)

    def test_told_once(self) -> None:
        self.spend_alone(3)
        for _ in range(3):
            self.purge(self.one.store)
        self.assertEqual(self.events("spent_store_told"), 1)

    def test_not_while_the_store_is_out_of_reach(self) -> None:
        self.spend_alone(3)
        self.one.pool.connections[0].failure = LATE
        with mock.patch.object(self.one.shared, "record") as record:
            self.purge(self.one.store)
        record.assert_not_called()

    def test_one_telling_at_a_time(self) -> None:
        self.spend_alone(3)
        self.purge_held()
        with mock.patch.object(self.one.shared, "record") as record:
            self.one.cut()
            self.spend(self.one.store, LATER + 9)
            self.one.mend()
            self.purge(self.one.store)
        record.assert_not_called()

    def test_outage_in_the_middle_of_it(self) -> None:
        self.spend_alone(1234)
        connection = self.one.pool.connections[0]
        run, answers = connection.run, iter(range(3))

        def run_twice(*args: object) -> Deferred[object]:
            # The first is the purge's.
            return run(*args) if next(answers, 2) < 2 else fail(LOST)  # type: ignore[arg-type]

        self.patch(connection, "run", run_twice)
        self.purge(self.one.store)
        self.assertTrue(self.one.store.status()["owing"])
        self.one.cut()
        self.one.mend()
        self.purge(self.one.store)
        self.assertEqual(self.spent_elsewhere(1234), {False})

    def test_spent_alone_in_the_middle_of_it(self) -> None:
        # Behind what was told already.
        self.spend_alone(3)
        connection = self.one.pool.connections[0]
        self.purge_held()
        self.one.pool.connections.clear()
        self.assertIs(self.spend(self.one.store, LATER, 99), True)
        self.one.pool.connections.append(connection)
        connection.release()
        self.assertTrue(self.one.store.status()["owing"])
        self.purge(self.one.store)
        self.assertIs(self.spend(self.other.store, LATER, 99), False)

    def purge_held(self) -> None:
        """Begin to tell, and wait for the answer."""
        connection = self.one.pool.connections[0]
        purging = self.one.shared.purge(self.now)
        self.successResultOf(purging)
        with mock.patch.object(self.one.shared, "purge", return_value=purging):
            connection.hold()
            self.purge(self.one.store)

    def test_own_store_cannot_be_read(self) -> None:
        self.spend_alone(3)
        with mock.patch.object(self.one.local, "recall", side_effect=CannotOpen("gone")):
            self.purge(self.one.store)
        self.assertTrue(self.one.store.status()["owing"])
        self.purge(self.one.store)
        self.assertEqual(self.spent_elsewhere(3), {False})

    def test_bug_is_logged(self) -> None:
        self.spend_alone(3)
        with mock.patch.object(self.one.local, "recall", side_effect=ZeroDivisionError):
            self.purge(self.one.store)
        self.assertIn("ZeroDivisionError", self.logged.getvalue())

    def test_from_a_process_that_ended_in_the_outage(self) -> None:
        self.one.cut()
        self.spend(self.one.store)
        with mock.patch.object(self.one.local, "open"):
            again = self.machine(self.one.local)
        self.purge(again.store)
        self.assertIs(self.spend(self.other.store), False)

    def test_both_are_closed(self) -> None:
        self.successResultOf(self.one.store.close())
        self.assertTrue(self.one.pool.stopped)
        self.assertEqual(self.one.local.count(), 0)


class AnyCourse(Machines):
    """Each machine hands a token out at most once, and nobody else after that is told."""

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["spend", "spend", "cut", "late", "mend", "purge"]),
                st.integers(0, 1),
                st.integers(0, 3),
            ),
            max_size=40,
        )
    )
    def test_once_on_each_machine(self, course: list[tuple[str, int, int]]) -> None:
        self.setUp()
        machines = (self.one, self.other)
        handed: list[tuple[int, int]] = []
        for step, number, token in course:
            machine = machines[number]
            if step == "spend":
                told = (1 - number, token) in handed and self.told(machines[1 - number])
                alone = machine.alone.count
                if self.spend(machine.store, LATER, token) is True:
                    self.assertNotIn((number, token), handed)
                    self.assertFalse(told and machine.alone.count == alone)
                    handed.append((number, token))
            elif step == "purge":
                self.purge(machine.store)
            elif step == "late":
                for connection in machine.pool.connections:
                    connection.failure, connection.deaf = LATE, bool(token % 2)
            else:
                machine.cut()
                if step == "mend":
                    machine.mend()

    def told(self, machine: Machine) -> bool:
        return machine.shared.reachable and not machine.store.status()["owing"]
