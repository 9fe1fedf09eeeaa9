"""The LMDB spent store is shared by processes, whose end does it no harm."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wow.errors import Expired
from wow.logs import make_logger
from wow.pow.spent_lmdb import LmdbSpentStore

NOW = 1_700_000_000_000
TTL = 60_000

_UNFINISHED = """
import sys, lmdb
environment = lmdb.open(sys.argv[1], map_size=2**24, sync=False)
transaction = environment.begin(write=True)
transaction.put(b"unfinished", b"")
print("holding", flush=True)
sys.stdin.read()
"""

_OPENED = """
import sys
from io import StringIO
from pathlib import Path
from wow.logs import make_logger
from wow.pow.spent_lmdb import LmdbSpentStore
log = make_logger(StringIO(), "info", "json")
now = int(sys.argv[2])
store = LmdbSpentStore(Path(sys.argv[1]), lambda: now, 60_000, 100_000, log, "boot")
store.open()
"""

_RACING = (
    _OPENED
    + """
print("ready", flush=True)
sys.stdin.readline()
won = []
for number in range(2000):
    if store.spend(now + 60_001 + number % 5, number.to_bytes(16, "big")):
        won.append(number)
print(*won, flush=True)
"""
)


_PURGING = (
    _OPENED
    + """
print("ready", flush=True)
expiry_ms = int(sys.stdin.readline())
store.spend(expiry_ms, bytes(16))
store.purge(expiry_ms + 1)
"""
)


def open_store(directory: Path) -> LmdbSpentStore:
    log = make_logger(StringIO(), "info", "json")
    store = LmdbSpentStore(directory, lambda: NOW, TTL, 100_000, log, "boot")
    store.open()
    return store


def start(stack: ExitStack, script: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.__exit__, None, None, None)
    stack.callback(process.kill)
    assert process.stdout is not None
    process.stdout.readline()
    return process


class SharedStore(SynchronousTestCase):
    def test_killed_writer_blocks_nobody(self) -> None:
        directory = Path(self.mktemp())
        store = open_store(directory)
        self.addCleanup(store.close)
        with ExitStack() as stack:
            writer = start(stack, _UNFINISHED, str(directory / "boot"))
            writer.kill()
            writer.wait()
        token = (NOW + TTL + 1, bytes(16))
        self.assertIs(store.spend(*token), True)
        self.assertIs(store.spend(*token), False)
        store.purge(0)
        self.assertEqual(store.count(), 1)

    def test_mark_moved_by_another_process(self) -> None:
        directory = Path(self.mktemp())
        store = open_store(directory)
        self.addCleanup(store.close)
        later = NOW + TTL + 10
        with ExitStack() as stack:
            other = start(stack, _PURGING, str(directory), str(NOW))
            assert other.stdin is not None
            other.communicate(f"{later}\n")
        self.assertRaises(Expired, store.spend, later, bytes(16))
        store.purge(0)
        self.assertEqual(store.mark, later)

    def test_racing_processes_spend_each_token_once(self) -> None:
        directory = Path(self.mktemp())
        with ExitStack() as stack:
            racers = [start(stack, _RACING, str(directory), str(NOW)) for _ in range(3)]
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write("go\n")
                racer.stdin.flush()
            won = [int(number) for racer in racers for number in racer.communicate()[0].split()]
        self.assertEqual(sorted(won), list(range(2000)))
