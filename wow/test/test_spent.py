"""Every spent store keeps the promises of L{ISpentStore}: one conformance suite, run on each."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import lmdb
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from wow.errors import Expired, Unavailable
from wow.logs import make_logger
from wow.pow.spent import CannotOpen, ISpentStore, MemorySpentStore
from wow.pow.spent_lmdb import UNKNOWN_BOOT, LmdbSpentStore, this_boot

TTL = 60_000
START = 1_700_000_000_000
LATER = START + TTL + 1
"""An expiry that a store that started at START takes."""

BOOT = "00000000-0000-4000-8000-000000000001"
NEXT_BOOT = "00000000-0000-4000-8000-000000000002"

Outcome = bool | type[Exception]

if TYPE_CHECKING:
    Base = SynchronousTestCase
else:
    Base = object


class StoreConformance(Base):
    """
    What every store promises.

    Mixed into a test case with C{make_store()}, which gives an empty store
    whose clock shows C{self.now}.
    """

    def setUp(self) -> None:
        self.now = START

    def make_store(self) -> ISpentStore:
        raise NotImplementedError

    def opened(self) -> ISpentStore:
        store = self.make_store()
        store.open()
        self.addCleanup(store.close)
        return store

    def spend(self, store: ISpentStore, expiry_ms: int, number: int = 1) -> Outcome:
        outcome: list[Outcome] = []
        maybeDeferred(store.spend, expiry_ms, number.to_bytes(16, "big")).addCallbacks(
            outcome.append, lambda failure: outcome.append(type(failure.value))
        )
        return outcome[0]

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
        self.assertEqual(store.mark, START + TTL)
        self.assertIs(self.spend(store, START + TTL), Expired)
        self.assertIs(self.spend(store, START + TTL + 1), True)

    def test_purged_tokens_stay_refused(self) -> None:
        store = self.opened()
        self.spend(store, LATER)
        while store.purge(LATER + 1):
            pass
        self.assertEqual(store.count(), 0)
        self.assertIs(self.spend(store, LATER), Expired)

    def test_purge_keeps_what_has_not_expired(self) -> None:
        store = self.opened()
        self.spend(store, LATER)
        store.purge(LATER)
        self.assertEqual(store.count(), 1)
        self.assertIs(self.spend(store, LATER), False)

    def test_purging_nothing_moves_no_mark(self) -> None:
        # A clock set forward by mistake, for a moment, must not refuse
        # everything until time has caught up.
        store = self.opened()
        store.purge(LATER + 10**9)
        self.assertEqual(store.mark, START + TTL)
        self.assertIs(self.spend(store, LATER), True)

    def test_clock_set_forward_and_back(self) -> None:
        store = self.opened()
        self.spend(store, LATER, 1)
        while store.purge(LATER + 10**6):
            pass
        self.assertIs(self.spend(store, LATER, 1), Expired)
        self.assertIs(self.spend(store, LATER + 1, 1), True)

    def test_many_are_purged_in_bounded_steps(self) -> None:
        store = self.opened()
        for number in range(1200):
            self.spend(store, LATER + number % 7, number)
        steps = 1
        while store.purge(LATER + 7):
            steps += 1
            self.assertLess(steps, 100)
        self.assertEqual(store.count(), 0)
        self.assertEqual(store.mark, LATER + 6)

    def test_mark_never_moves_back(self) -> None:
        store = self.opened()
        for expiry_ms in (LATER + 10, LATER + 5):
            self.spend(store, expiry_ms)
        store.purge(LATER + 20)
        self.assertEqual(store.mark, LATER + 10)
        self.spend(store, LATER + 11)
        store.purge(LATER + 11)
        self.assertEqual(store.mark, LATER + 10)

    @given(
        st.lists(
            st.tuples(st.sampled_from(["spend", "purge"]), st.integers(-5, 5), st.integers(0, 2)),
            max_size=30,
        )
    )
    def test_nothing_is_ever_spent_twice(self, steps: list[tuple[str, int, int]]) -> None:
        self.now = START
        store = self.make_store()
        store.open()
        spent: set[tuple[int, int]] = set()
        for step, offset, number in steps:
            if step == "purge":
                store.purge(LATER + offset)
            elif self.spend(store, LATER + offset, number) is True:
                self.assertNotIn((offset, number), spent)
                spent.add((offset, number))
        store.close()


class MemoryStore(StoreConformance, SynchronousTestCase):
    """The fake that the other tests use."""

    def make_store(self) -> ISpentStore:
        return MemorySpentStore(lambda: self.now, TTL)


class LmdbStore(StoreConformance, SynchronousTestCase):
    """The store of one machine."""

    def setUp(self) -> None:
        super().setUp()
        self.logged = io.StringIO()

    def make_store(self) -> LmdbSpentStore:
        return self.store_in(Path(self.mktemp()))

    def store_in(
        self, directory: Path, max_entries: int = 10_000, boot: str = BOOT
    ) -> LmdbSpentStore:
        log = make_logger(self.logged, "info", "json")
        return LmdbSpentStore(directory, lambda: self.now, TTL, max_entries, log, boot)

    def opened_in(self, directory: Path, **options: Any) -> LmdbSpentStore:
        store = self.store_in(directory, **options)
        store.open()
        self.addCleanup(store.close)
        return store

    def test_survives_a_restart(self) -> None:
        directory = Path(self.mktemp())
        store = self.opened_in(directory)
        self.spend(store, LATER)
        store.close()
        self.now += 1000
        again = self.opened_in(directory)
        self.assertEqual(again.mark, START + TTL)
        self.assertIs(self.spend(again, LATER), False)

    def test_deleted_store_revives_nothing(self) -> None:
        directory = Path(self.mktemp())
        store = self.opened_in(directory)
        self.spend(store, LATER)
        store.close()
        shutil.rmtree(directory)
        self.now += 1000
        self.assertIs(self.spend(self.opened_in(directory), LATER), Expired)

    def test_store_deleted_while_in_use(self) -> None:
        directory = Path(self.mktemp())
        store = self.opened_in(directory)
        self.spend(store, LATER)
        shutil.rmtree(directory)
        self.now += 1000
        self.assertIs(self.spend(store, LATER), Expired)
        self.assertEqual(store.mark, START + 1000 + TTL)
        self.assertIs(self.spend(store, LATER + 1000), True)
        self.assertIn("spent_store_replaced", self.logged.getvalue())

    def test_files_of_an_earlier_boot_are_never_read(self) -> None:
        directory = Path(self.mktemp())
        store = self.opened_in(directory, boot=BOOT)
        self.spend(store, LATER)
        store.close()
        self.now += 1000
        today = self.opened_in(directory, boot=NEXT_BOOT)
        self.assertIs(self.spend(today, LATER), Expired)
        self.assertEqual([files.name for files in directory.iterdir()], [NEXT_BOOT])

    def test_nothing_else_in_the_directory_is_touched(self) -> None:
        directory = Path(self.mktemp())
        for name in ("ldap", "00000000", f"{BOOT}.old"):
            (directory / name).mkdir(parents=True)
            (directory / name / "data.mdb").write_text("another's")
        self.opened_in(directory)
        self.assertEqual(len(list(directory.iterdir())), 4)

    def test_reboot_with_a_clock_that_is_behind(self) -> None:
        directory = Path(self.mktemp())
        store = self.opened_in(directory)
        self.spend(store, LATER)
        store.close()
        os.utime(directory / BOOT / "data.mdb", (START / 1000, START / 1000))
        self.now = START - 10**9
        self.assertIs(self.spend(self.opened_in(directory, boot=NEXT_BOOT), LATER), Expired)

    def test_moved_away_and_back(self) -> None:
        directory, away = Path(self.mktemp()), Path(self.mktemp())
        store = self.opened_in(directory)
        directory.rename(away)
        self.now += 1000
        token = LATER + 1000
        self.assertIs(self.spend(store, token), True)
        shutil.rmtree(directory)
        away.rename(directory)
        self.now += 1
        self.assertIs(self.spend(store, token), Expired)

    def test_lock_file_deleted_while_in_use(self) -> None:
        directory = Path(self.mktemp())
        store = self.opened_in(directory)
        self.spend(store, LATER, 1)
        (directory / BOOT / "lock.mdb").unlink()
        self.now += 1000
        self.assertIs(self.spend(store, LATER, 1), Expired)
        self.assertTrue((directory / BOOT / "lock.mdb").exists())
        self.assertIn("spent_store_replaced", self.logged.getvalue())

    def test_files_cut_short(self) -> None:
        for length in (0, 1, 4096, 8192, 12288, 16384):
            directory = Path(self.mktemp())
            store = self.opened_in(directory)
            for number in range(1000):
                self.spend(store, LATER, number)
            store.close()
            os.truncate(directory / BOOT / "data.mdb", length)
            self.now += 1000
            again = self.opened_in(directory)
            outcomes = {self.spend(again, LATER, number) for number in range(1000)}
            self.assertNotIn(True, outcomes, length)
            again.purge(0)
            self.assertIs(self.spend(again, again.mark + 1), True, length)

    def test_replays_take_no_room(self) -> None:
        store = self.opened_in(Path(self.mktemp()), max_entries=10)
        for _ in range(20):
            self.spend(store, LATER)
        self.assertIs(self.spend(store, LATER + 1), True)

    def test_unreadable_files_are_replaced(self) -> None:
        directory = Path(self.mktemp())
        store = self.opened_in(directory)
        self.spend(store, LATER)
        store.close()
        (directory / BOOT / "data.mdb").write_bytes(os.urandom(8192))
        self.now += 1000
        self.assertIs(self.spend(self.opened_in(directory), LATER), Expired)
        self.assertIn("spent_store_reset", self.logged.getvalue())

    def test_store_without_its_mark_is_replaced(self) -> None:
        directory = Path(self.mktemp())
        store = self.opened_in(directory)
        self.spend(store, LATER)
        store.close()
        with (
            lmdb.open(str(directory / BOOT)) as environment,
            environment.begin(write=True) as transaction,
        ):
            transaction.delete(b"mark")
        self.assertIs(self.spend(self.opened_in(directory), LATER - 1), Expired)

    def test_full_store_refuses_and_recovers(self) -> None:
        store = self.opened_in(Path(self.mktemp()), max_entries=1000)
        outcomes = [self.spend(store, LATER, number) for number in range(1001)]
        self.assertEqual(outcomes, [True] * 1000 + [Unavailable])
        store.purge(LATER)
        self.assertEqual(store.trouble, "full")
        self.assertIs(self.spend(store, LATER, 0), Unavailable)
        while store.purge(LATER + 1):
            pass
        self.assertIsNone(store.trouble)
        self.assertIs(self.spend(store, LATER + 1), True)

    def test_bound_leaves_lmdb_room_to_purge(self) -> None:
        store = self.opened_in(Path(self.mktemp()), max_entries=50_000)
        for number in range(50_000):
            mixed = number * 7919 % 50_000
            self.assertIs(self.spend(store, LATER + mixed, mixed), True)
        while store.purge(LATER + 50_000):
            pass
        self.assertEqual((store.count(), store.trouble), (0, None))

    def test_failing_disk_refuses_and_recovers(self) -> None:
        store = self.opened_in(Path(self.mktemp()))
        with mock.patch.object(store, "_environment") as environment:
            environment.begin.side_effect = lmdb.DiskError("No space left on device")
            self.assertIs(self.spend(store, LATER), Unavailable)
        self.assertIn("No space left", str(store.trouble))
        self.assertIs(self.spend(store, LATER), True)
        store.purge(0)
        self.assertIsNone(store.trouble)
        self.assertIs(self.spend(store, LATER), False)

    def test_trouble_is_logged_once(self) -> None:
        store = self.opened_in(Path(self.mktemp()), max_entries=1)
        for number in range(10):
            self.spend(store, LATER, number)
            store.purge(0)
        self.assertEqual(self.logged.getvalue().count("spent_store_unusable"), 1)

    def test_cannot_open(self) -> None:
        path = Path(self.mktemp())
        path.write_text("a file")
        failure = self.assertRaises(CannotOpen, self.store_in(path).open)
        self.assertIn(str(path), str(failure))

    def test_files_are_private(self) -> None:
        directory = Path(self.mktemp())
        self.opened_in(directory)
        for path in (directory / BOOT, *(directory / BOOT).iterdir()):
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)

    def test_this_boot(self) -> None:
        self.assertEqual(this_boot(), this_boot())
        self.assertNotIn("/", this_boot())
        with mock.patch.object(Path, "read_text", side_effect=OSError):
            self.assertEqual(this_boot(), UNKNOWN_BOOT)
