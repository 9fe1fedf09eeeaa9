"""What every spent store promises: one conformance suite, to be run on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from wow.errors import Expired
from wow.pow.spent import ISpentStore

TTL = 60_000
SKEW = 5_000
START = 1_700_000_000_000
LATER = START + TTL + SKEW + 1
"""An expiry that any store takes that started at START."""

Outcome = bool | type[Exception]

_T = TypeVar("_T")

if TYPE_CHECKING:
    Base = SynchronousTestCase
else:
    Base = object


class StoreConformance(Base):
    """
    Mixed into a test case with C{make_store()}, which gives an empty store
    whose clock shows C{self.now}.
    """

    def setUp(self) -> None:
        self.now = START

    def make_store(self) -> ISpentStore:
        raise NotImplementedError

    def wait(self, deferred: Deferred[_T]) -> _T:
        """What a Deferred fires with."""
        return self.successResultOf(deferred)

    def close(self, store: ISpentStore) -> None:
        self.wait(maybeDeferred(store.close))

    def open(self, store: ISpentStore) -> None:
        """Open a store, and wait until it is ready."""
        self.now = START
        store.open()
        self.make_ready(store)
        self.assertIsNone(store.trouble)
        # Long enough for tokens a little above LATER to have been made.
        self.now += 1000

    def make_ready(self, store: ISpentStore) -> None:
        """Wait for a store that is not ready as soon as it is opened."""

    def opened(self) -> ISpentStore:
        store = self.make_store()
        self.open(store)
        self.addCleanup(self.close, store)
        return store

    def spend(self, store: ISpentStore, expiry_ms: int, number: int = 1) -> Outcome:
        outcome: Deferred[Outcome] = Deferred()
        maybeDeferred(store.spend, expiry_ms, number.to_bytes(16, "big")).addCallbacks(
            outcome.callback, lambda failure: outcome.callback(type(failure.value))
        )
        return self.wait(outcome)

    def purge(self, store: ISpentStore, before_ms: int) -> bool:
        """Purge as it is done when a clock that shows so much is set back at once."""
        now, self.now = self.now, before_ms + SKEW
        purge: Callable[[int], Any] = store.purge
        more: bool = self.wait(maybeDeferred(purge, before_ms))
        self.now = now
        return more

    def purge_all(self, store: ISpentStore, before_ms: int) -> None:
        for _ in range(100):
            if not self.purge(store, before_ms):
                return
        self.fail("there is no end to what is purged")

    def test_provides_the_interface(self) -> None:
        verifyObject(ISpentStore, self.opened())

    def test_only_the_first_spends(self) -> None:
        store = self.opened()
        outcomes = [self.spend(store, LATER) for _ in range(3)]
        self.assertEqual(outcomes, [True, False, False])

    def test_expiry_and_id_together_name_a_token(self) -> None:
        store = self.opened()
        self.assertIs(self.spend(store, LATER, 1), True)
        self.assertIs(self.spend(store, LATER, 2), True)
        self.assertIs(self.spend(store, LATER + 1, 1), True)

    def test_store_that_starts_empty_refuses_what_was_out_before(self) -> None:
        store = self.opened()
        self.assertGreaterEqual(store.mark, START + TTL)
        self.assertIs(self.spend(store, START + TTL), Expired)
        self.assertIs(self.spend(store, store.mark), Expired)
        self.assertIs(self.spend(store, store.mark + 1), True)

    def test_purged_tokens_stay_refused(self) -> None:
        store = self.opened()
        self.spend(store, LATER)
        self.purge_all(store, LATER + 1)
        self.assertEqual(store.count(), 0)
        self.assertIs(self.spend(store, LATER), Expired)

    def test_purge_keeps_what_has_not_expired(self) -> None:
        store = self.opened()
        self.spend(store, LATER)
        self.purge(store, LATER)
        self.assertEqual(store.count(), 1)
        self.assertIs(self.spend(store, LATER), False)

    def test_purging_nothing_moves_no_mark(self) -> None:
        # A clock set forward by mistake, for a moment, must not refuse
        # everything until time has caught up.
        store = self.opened()
        before = store.mark
        self.purge(store, LATER + 10**9)
        self.assertEqual(store.mark, before)
        self.assertIs(self.spend(store, LATER), True)

    def test_clock_set_forward_and_back(self) -> None:
        store = self.opened()
        self.spend(store, LATER, 1)
        self.purge_all(store, LATER + 10**6)
        self.assertIs(self.spend(store, LATER, 1), Expired)
        self.assertIs(self.spend(store, LATER + 1, 1), True)

    def test_many_are_purged_in_bounded_steps(self) -> None:
        store = self.opened()
        for number in range(1200):
            self.spend(store, LATER + number % 7, number)
        self.purge_all(store, LATER + 7)
        self.assertEqual(store.count(), 0)
        self.assertEqual(store.mark, LATER + 6)

    def test_mark_never_moves_back(self) -> None:
        store = self.opened()
        for expiry_ms in (LATER + 10, LATER + 5):
            self.spend(store, expiry_ms)
        self.purge(store, LATER + 20)
        self.assertEqual(store.mark, LATER + 10)
        self.spend(store, LATER + 11)
        self.purge(store, LATER + 11)
        self.assertEqual(store.mark, LATER + 10)

    @given(
        st.lists(
            st.tuples(st.sampled_from(["spend", "purge"]), st.integers(-5, 5), st.integers(0, 2)),
            max_size=30,
        )
    )
    def test_nothing_is_ever_spent_twice(self, steps: list[tuple[str, int, int]]) -> None:
        store = self.make_store()
        self.open(store)
        spent: set[tuple[int, int]] = set()
        for step, offset, number in steps:
            if step == "purge":
                self.purge(store, LATER + offset)
            elif self.spend(store, LATER + offset, number) is True:
                self.assertNotIn((offset, number), spent)
                spent.add((offset, number))
        self.close(store)
