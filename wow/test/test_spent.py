"""Every spent store keeps the promises of L{ISpentStore}, and what it promises beside them."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import lmdb
from twisted.trial.unittest import SynchronousTestCase

from wow.errors import Expired, Unavailable
from wow.logs import make_logger
from wow.pow.spent import CannotOpen, ISpentStore, MemorySpentStore
from wow.pow.spent_lmdb import UNKNOWN_BOOT, LmdbSpentStore, this_boot
from wow.test.spent_conformance import START, TTL, StoreConformance

LATER = START + TTL + 1
"""An expiry that a store takes that started at START."""

BOOT = "00000000-0000-4000-8000-000000000001"
NEXT_BOOT = "00000000-0000-4000-8000-000000000002"


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
        self.purge_all(store, LATER + 1)
        self.assertIsNone(store.trouble)
        self.assertIs(self.spend(store, LATER + 1), True)

    def test_bound_leaves_lmdb_room_to_purge(self) -> None:
        store = self.opened_in(Path(self.mktemp()), max_entries=50_000)
        for number in range(50_000):
            mixed = number * 7919 % 50_000
            self.assertIs(self.spend(store, LATER + mixed, mixed), True)
        while self.purge(store, LATER + 50_000):
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

    def test_recall_in_the_order_of_expiry(self) -> None:
        store = self.opened_in(Path(self.mktemp()))
        tokens = [(LATER + number // 2, (number % 2).to_bytes(16, "big")) for number in range(7)]
        for token in reversed(tokens):
            store.spend(*token)
        self.assertEqual(store.recall((0, b""), 5), tokens[:5])
        self.assertEqual(store.recall(tokens[4], 5), tokens[5:])
        self.assertEqual(store.recall(tokens[6], 5), [])
        memory = MemorySpentStore(lambda: START, TTL)
        memory.open()
        for token in tokens:
            memory.spend(*token)
        self.assertEqual(memory.recall(tokens[1], 3), store.recall(tokens[1], 3))

    def test_recall_from_a_failing_disk(self) -> None:
        store = self.opened_in(Path(self.mktemp()))
        with mock.patch.object(store, "_environment") as environment:
            environment.begin.side_effect = lmdb.DiskError("Input/output error")
            self.assertRaises(CannotOpen, store.recall, (0, b""), 5)
        self.assertIn("Input/output", str(store.trouble))
        self.assertEqual(store.recall((0, b""), 5), [])

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
