"""The spent store of one machine: LMDB in a directory, shared by all its processes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from itertools import islice
from pathlib import Path
from shutil import rmtree

import lmdb
from structlog.typing import FilteringBoundLogger
from zope.interface import implementer

from wow.errors import Expired, Unavailable
from wow.pow.spent import CannotOpen, ILocalSpentStore, Token

UNKNOWN_BOOT = "unknown-boot"
"""Stands for the boot where the kernel does not name it; every write is then forced to the disk."""

# Entries purged in one transaction: about a millisecond of the write lock.
_BATCH = 500

# Sorts behind every token, whose first byte stays 0 for two million years.
_MARK = b"mark"

# Keys in random order leave LMDB's pages half full at worst: 34 bytes become
# about 70. The rest is room to purge in.
_ENTRY_BYTES = 128
_SPARE_BYTES = 2**21
_LOCK_BYTES = 8192

# The kernel writes back what is older than half a minute: what a machine that
# died may have lost is newer than what it kept by about that.
_UNWRITTEN_MS = 60_000

# What this_boot() may give. Nothing else in the directory is ours to delete.
_BOOT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|" + UNKNOWN_BOOT)

_UNREADABLE = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError)


@implementer(ILocalSpentStore)
class LmdbSpentStore:
    """
    A store that survives the end of its processes.

    Writes are not forced to the disk, which would cost a hundred times the
    write itself, so a machine that dies may lose some or tear the file:
    hence the files of an earlier boot are never read, and the store starts
    empty, with its mark. Files that LMDB cannot read are replaced likewise.

    LMDB's write lock is a robust mutex: a process killed with the lock held
    lets go of it, and its unfinished transaction is void.

    @ivar mark: see L{ILocalSpentStore}.
    @ivar trouble: see L{ILocalSpentStore}.
    """

    mark = 0
    trouble: str | None = None

    def __init__(
        self,
        directory: Path,
        now_ms: Callable[[], int],
        ttl_ms: int,
        max_entries: int,
        log: FilteringBoundLogger,
        boot: str,
    ) -> None:
        """
        @param now_ms: the wall clock, for the mark of a store that starts empty.
        @param ttl_ms: how long tokens live, for the same.
        @param max_entries: how many tokens are remembered at most; any further
            one is refused.
        @param boot: what names this boot of the machine, from L{this_boot}.
        """
        self._directory = directory
        self._files = directory / boot
        self._data = str(self._files / "data.mdb")
        self._lock = str(self._files / "lock.mdb")
        self._now_ms = now_ms
        self._ttl_ms = ttl_ms
        self._max_entries = max_entries
        self._log = log
        self._empty_mark = 0
        self._opened: tuple[int, ...] | None = None
        self._usable = False
        self._looked_ms: int | None = None
        self._unreadable: Exception | None = None

    def open(self) -> None:
        # Not done by the constructor, since LMDB does not survive the fork by
        # which a process goes into the background.
        try:
            self._open()
        except (lmdb.Error, OSError) as failed:
            raise CannotOpen(f"{self._files}: {failed}") from None

    def spend(self, expiry_ms: int, random_id: bytes) -> bool:
        try:
            return self._spend(expiry_ms, random_id)
        except (lmdb.Error, OSError) as broken:
            self._stumble(broken)
            raise Unavailable(retry_after=1) from None

    def _spend(self, expiry_ms: int, random_id: bytes) -> bool:
        self._follow()
        if self._room <= 0:
            raise Unavailable(retry_after=1)
        with self._environment.begin(write=True) as transaction:
            self._read_mark(transaction)
            if expiry_ms <= self.mark:
                raise Expired
            key = _packed(expiry_ms) + random_id
            first = transaction.put(key, b"", overwrite=False)
        self._room -= first
        return first

    def purge(self, before_ms: int) -> bool:
        try:
            self._follow()
            with self._environment.begin(write=True) as transaction:
                more = self._purge(transaction, before_ms)
            self._count_room()
            self._report(None if self._room > 0 else "full")
        except (lmdb.Error, OSError) as broken:
            self._stumble(broken)
            return False
        return more

    def _purge(self, transaction: lmdb.Transaction, before_ms: int) -> bool:
        self._read_mark(transaction)
        with transaction.cursor() as cursor:
            cursor.first()
            for _ in range(_BATCH):
                if not _expired(key := cursor.key(), before_ms):
                    break
                self.mark = max(self.mark, _expiry(key))
                cursor.delete()
            more = _expired(cursor.key(), before_ms)
        transaction.put(_MARK, _packed(self.mark))
        return more

    def recall(self, after: Token, number: int) -> list[Token]:
        try:
            self._follow()
            with self._environment.begin() as transaction, transaction.cursor() as cursor:
                if not cursor.set_range(_packed(after[0]) + after[1] + b"\0"):
                    return []
                keys = islice(cursor.iternext(values=False), number)
                return [(_expiry(key), bytes(key[8:])) for key in keys if key != _MARK]
        except (lmdb.Error, OSError) as broken:
            self._stumble(broken)
            raise CannotOpen(f"{self._files}: {broken}") from None

    def count(self) -> int:
        return self._max_entries - self._room

    def status(self) -> Mapping[str, object]:
        return {"url": f"lmdb:{self._directory}"}

    def close(self) -> None:
        self._environment.close()

    def _read_mark(self, transaction: lmdb.Transaction) -> None:
        # A store without its mark must not pass for one whose mark is 0.
        mark = transaction.get(_MARK)
        if mark is None:
            raise lmdb.InvalidError("the mark is missing")
        self.mark = int.from_bytes(mark, "big")

    def _follow(self) -> None:
        # Files deleted or replaced under a running process live on in that
        # process alone, while others would spend in the new ones; with
        # another lock file, they would spend at the same time. Looked at once
        # a millisecond, as it costs as much as the write: whoever opens new
        # files meanwhile refuses every token that is out.
        now_ms = self._now_ms()
        if now_ms == self._looked_ms and self._usable:
            return
        self._looked_ms = now_ms
        found = self._identity()
        replaced = found != self._opened
        if replaced:
            self._log.warning("spent_store_replaced", path=str(self._files))
        elif self._usable:
            return
        self._environment.close()
        self._open(doubtful=replaced)

    def _identity(self) -> tuple[int, ...] | None:
        try:
            data, lock = os.stat(self._data), os.stat(self._lock)  # noqa: PTH116 (speed)
        except FileNotFoundError:
            return None
        return (data.st_dev, data.st_ino, data.st_size, lock.st_dev, lock.st_ino)

    def _open(self, doubtful: bool = False) -> None:
        """
        @param doubtful: whether the files may be old ones that were put back,
            and have not seen what was spent meanwhile.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _held(self._directory):
            # Tokens are made to expire after the mark, so the one above it may be out.
            self._empty_mark = max(self._now_ms() + self._ttl_ms, self.mark + 1)
            self._forget_earlier_boots()
            if self._unreadable is not None:
                self._discard(self._unreadable)
            try:
                self._environment = self._open_files(doubtful)
            except _UNREADABLE as broken:
                self._discard(broken)
                self._environment = self._open_files(doubtful)
            self._opened = self._identity()
        self._usable = True
        self._unreadable = None
        self._count_room()

    def _open_files(self, doubtful: bool) -> lmdb.Environment:
        self._files.mkdir(mode=0o700, exist_ok=True)
        map_size = _SPARE_BYTES + self._max_entries * _ENTRY_BYTES
        self._reserve_lock()
        self._lengthen(map_size)
        environment = lmdb.open(
            str(self._files),
            map_size=map_size,
            mode=0o600,
            sync=self._files.name == UNKNOWN_BOOT,
        )
        try:
            self._start_mark(environment, doubtful)
        except lmdb.Error:
            environment.close()
            raise
        self._lengthen(map_size)
        return environment

    def _lengthen(self, length: int) -> None:
        # Without using up the disk. A file cut short would end the process on
        # the first look behind its end; with zeros there, LMDB sees for itself.
        if os.path.exists(self._data) and os.path.getsize(self._data) < length:  # noqa: PTH110, PTH202
            os.truncate(self._data, length)

    def _reserve_lock(self) -> None:
        # LMDB writes to it through memory, where a full disk ends the process.
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _LOCK_BYTES)
        finally:
            os.close(descriptor)

    def _start_mark(self, environment: lmdb.Environment, doubtful: bool) -> None:
        with environment.begin(write=True) as transaction:
            if environment.stat()["entries"] == 0:
                transaction.put(_MARK, _packed(self._empty_mark))
            self._read_mark(transaction)
            if doubtful:
                self.mark = max(self.mark, self._empty_mark)
                transaction.put(_MARK, _packed(self.mark))

    def _forget_earlier_boots(self) -> None:
        for files in self._directory.iterdir():
            if files != self._files and _BOOT.fullmatch(files.name):
                self._remove(files)

    def _discard(self, broken: Exception) -> None:
        self._log.error("spent_store_reset", path=str(self._files), reason=str(broken))
        self._remove(self._files)

    def _remove(self, files: Path) -> None:
        # The clock may have been set back since, above all by a reboot where
        # no battery keeps it; the files tell up to when there was spending.
        with suppress(OSError):
            written_ms = (files / "data.mdb").stat().st_mtime_ns // 1_000_000
            lost_ms = written_ms + _UNWRITTEN_MS
            self._empty_mark = max(self._empty_mark, lost_ms + self._ttl_ms)
        rmtree(files, ignore_errors=True)

    def _count_room(self) -> None:
        # LMDB itself, once full, has no page left to delete with. So the
        # bound is kept here, well below: counted with every purge, and from
        # there on for this process's own tokens.
        self._room = self._max_entries - (self._environment.stat()["entries"] - 1)

    def _stumble(self, broken: Exception) -> None:
        # After some failures an environment is good for nothing but closing.
        self._usable = False
        self._unreadable = broken if isinstance(broken, _UNREADABLE) else None
        self._report(str(broken))

    def _report(self, trouble: str | None) -> None:
        if trouble and not self.trouble:
            self._log.error("spent_store_unusable", path=str(self._files), reason=trouble)
        if self.trouble and not trouble:
            self._log.info("spent_store_recovered", path=str(self._files))
        self.trouble = trouble


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Keep other processes from opening or replacing the files meanwhile."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flock(descriptor, LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def this_boot() -> str:
    """What names this boot of the machine, or L{UNKNOWN_BOOT}."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return UNKNOWN_BOOT


def _packed(moment_ms: int) -> bytes:
    return moment_ms.to_bytes(8, "big")


def _expiry(key: bytes | memoryview[int]) -> int:
    return int.from_bytes(key[:8], "big")


def _expired(key: bytes | memoryview[int], before_ms: int) -> bool:
    return key != _MARK and _expiry(key) < before_ms
