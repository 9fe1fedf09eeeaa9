"""The solver as it is used: real processes, which never outlive their work."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

from twisted.internet import reactor, task
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from wow.pow import work
from wow.pow.search import Puzzle, SolverFailed
from wow.pow.solver import Solver

PUZZLE = Puzzle("AQEDBQAAEACPtjZ2AAADuyzD2ABAQUJDREVGR0hJSktMTU5P", 3, 2**16)
ENDLESS = Puzzle("AQEDBQAAEACPtjZ2AAADuyzD2ABAQUJDREVGR0hJSktMTU5P", 64, 2**32 - 1)

PARENT = f"""
from twisted.internet import reactor
from wow.pow.search import Puzzle
from wow.pow.solver import Solver

def say(index, hashes, solved):
    print(*[searcher.transport.pid for searcher in solver._searchers], flush=True)

solver = Solver(reactor, 2)
reactor.callWhenRunning(solver.solve, Puzzle("{ENDLESS.token}", 64, 2**32 - 1), say)
reactor.run()
"""


def alive(pid: int) -> bool:
    """Whether there is such a process, be it a zombie that nobody reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def running(pid: int) -> bool:
    """Whether the process is there and no zombie: ours are not all ours to reap."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


class SolverTests(TestCase):
    """Two processes, on however few cores."""

    timeout = 60

    def setUp(self) -> None:
        self.solver = Solver(reactor, 2)
        self.addCleanup(self.solver.close)

    def pids(self) -> list[int]:
        pids = [searcher.transport.pid for searcher in self.solver._searchers]
        self.assertEqual(len(pids), 2)
        return pids

    async def until_gone(self, pids: list[int]) -> None:
        while any(map(running, pids)):
            await task.deferLater(reactor, 0.01)

    async def begin(self) -> Deferred[list[int]]:
        """An endless search that has begun."""
        begun: Deferred[None] = Deferred()

        def progress(*_: object) -> None:
            if not begun.called:
                begun.callback(None)

        solving = self.solver.solve(ENDLESS, progress)
        await begun
        return solving

    async def test_solves(self) -> None:
        last: dict[int, tuple[int, bool]] = {}

        def progress(index: int, hashes: int, solved: bool) -> None:
            last[index] = hashes, solved

        nonces = await self.solver.solve(PUZZLE, progress)
        self.assertTrue(work.check(PUZZLE.token, nonces, PUZZLE.target))
        self.assertEqual(len(nonces), PUZZLE.rounds)
        self.assertEqual([last[index][1] for index in range(3)], [True] * 3)
        self.assertGreater(sum(hashes for hashes, _ in last.values()), 0)

    async def test_same_processes_again(self) -> None:
        await self.solver.solve(PUZZLE)
        pids = self.pids()
        await self.solver.solve(Puzzle("AQ", 2, 2**16))
        self.assertEqual(self.pids(), pids)

    async def test_whatever_is_around(self) -> None:
        """Modules on the path that hide the standard library's hinder nobody."""
        around = Path(self.mktemp())
        around.mkdir()
        for name in ("hashlib", "signal", "token"):
            (around / f"{name}.py").write_text("raise SystemExit\n", encoding="ascii")
        with patch.dict(os.environ, PYTHONPATH=str(around.absolute())):
            solving = self.solver.solve(PUZZLE)
        await solving

    async def test_close_leaves_nothing(self) -> None:
        """Neither zombies nor open files."""
        # Twisted opens a pipe of its own for the first child of all.
        await self.until_used()
        before = open_files()
        await self.begin()
        pids = self.pids()
        self.assertGreater(open_files(), before)
        self.solver._solved.addErrback(lambda failure: failure.trap(CancelledError))
        await self.solver.close()
        self.assertFalse(any(map(alive, pids)))
        self.assertEqual(open_files(), before)

    async def until_used(self) -> None:
        """Another solver was used and closed."""
        other = Solver(reactor, 1)
        await other.solve(Puzzle("A", 1, 1))
        await other.close()

    async def test_cancel(self) -> None:
        solving = await self.begin()
        pids = self.pids()
        solving.cancel()
        self.failureResultOf(solving, CancelledError)
        await self.until_gone(pids)
        nonces = await self.solver.solve(PUZZLE)
        self.assertTrue(work.check(PUZZLE.token, nonces, PUZZLE.target))

    async def test_killed_process(self) -> None:
        solving = await self.begin()
        pids = self.pids()
        os.kill(pids[0], signal.SIGKILL)
        failure = await self.assertFailure(solving, SolverFailed)
        self.assertIn("ended by signal 9", str(failure))
        await self.until_gone(pids)

    async def test_ctrl_c_is_for_the_parent(self) -> None:
        solving = await self.begin()
        pids = self.pids()
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        await self.until_progress()
        self.assertNoResult(solving)
        self.assertEqual(self.pids(), pids)
        solving.addErrback(lambda failure: failure.trap(CancelledError))

    async def until_progress(self) -> None:
        """Every process came back with an answer, twice: none died of what was done before."""
        search = self.solver._search
        assert search is not None
        before = search.rounds[0].hashes, search.rounds[1].hashes
        while search.rounds[0].hashes < before[0] + 2 or search.rounds[1].hashes < before[1] + 2:
            await task.deferLater(reactor, 0.01)

    async def test_parent_dies(self) -> None:
        """Processes end by themselves when nobody is left to end them."""
        parent = Parent()
        reactor.spawnProcess(parent, sys.executable, [sys.executable, "-c", PARENT], env=None)
        pids = await parent.said
        self.assertEqual(len(pids), 2)
        self.assertTrue(all(map(running, pids)))
        parent.transport.signalProcess("KILL")  # type: ignore[union-attr]
        await parent.ended
        await self.until_gone(pids)


class Parent(ProcessProtocol):
    """
    A process of its own that searches.

    @ivar said: fires with the first line that it prints, its children's ids.
    @ivar ended: fires when it is gone.
    """

    def __init__(self) -> None:
        self.said: Deferred[list[int]] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._received = b""

    def outReceived(self, data: bytes) -> None:
        self._received += data
        if b"\n" in self._received and not self.said.called:
            self.said.callback([int(pid) for pid in self._received.splitlines()[0].split()])

    def processEnded(self, reason: Failure) -> None:
        reason.trap(ProcessDone, ProcessTerminated)
        if not self.said.called:
            self.said.errback(reason)
        self.ended.callback(None)
