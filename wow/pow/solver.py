"""
Solve a puzzle on every core, off the reactor, until told to stop.

Searching is done by child processes rather than threads: hashing short
messages never lets go of the interpreter's lock, and a process can be stopped
at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from wow.pow import work
from wow.pow.search import Chunk, Progress, Puzzle, Search, SolverFailed

# -I: neither the script's folder, where token.py would hide the standard
# library's, nor PYTHONPATH. -S: nothing that is installed. So whatever there
# is around it, the script starts, and within 10 ms.
_COMMAND = (sys.executable, "-I", "-S", work.__file__)
_LONGEST_COMPLAINT = 1000


def silently(round_index: int, hashes: int, solved: bool) -> None:
    """A L{Progress} that nobody sees."""


class ISolver(Interface):
    """Solves puzzles, one at a time."""

    def solve(puzzle: Puzzle, progress: Progress = silently) -> Deferred[list[int]]:
        """
        Find a nonce for each round.

        @param progress: called after each piece of the search.
        @return: a Deferred that fires with the nonces in the order of the
            rounds. It fails with L{SolverFailed}, or with whatever
            C{progress} raised; cancelling it stops the search at once.
        @raise RuntimeError: if a puzzle is being solved already, or the
            solver was closed.
        """

    def close() -> Deferred[None]:
        """
        Cancel what is being solved, and let go of everything held for solving.

        @return: a Deferred that fires when all of it is gone.
        """


@implementer(ISolver)
class SynchronousSolver:
    """
    Solves while the caller waits, in this process: for tests, with small efforts.

    The Deferreds that it returns have fired.
    """

    def solve(self, puzzle: Puzzle, progress: Progress = silently) -> Deferred[list[int]]:
        """See L{ISolver.solve}. Finds the smallest nonces."""
        search = Search(puzzle, progress)
        while (chunk := search.take()) is not None:
            search.record(
                chunk,
                work.search(
                    puzzle.token, chunk.round.index, puzzle.target, chunk.start, chunk.count
                ),
            )
        nonces = search.solution()
        assert nonces is not None
        return succeed(nonces)

    def close(self) -> Deferred[None]:
        """See L{ISolver.close}. Nothing is held."""
        return succeed(None)


@implementer(ISolver)
class Solver:
    """
    Solves with child processes.

    They are started when first needed and kept for the next puzzle. They end
    with L{close}, with a puzzle that is given up, and, should this process
    die, by themselves.
    """

    def __init__(self, reactor: IReactorProcess, processes: int | None = None) -> None:
        """
        @param processes: how many to use at most; by default one a core.
        @raise ValueError: if that is less than one.
        """
        self._reactor = reactor
        self._most = _cores() if processes is None else processes
        if self._most < 1:
            raise ValueError(f"a solver needs at least one process, not {processes}")
        self._searchers: list[_Searcher] = []
        self._ending: list[_Searcher] = []
        self._search: Search | None = None
        self._solved: Deferred[list[int]]  # there is one while there is a search
        self._closed = False

    def solve(self, puzzle: Puzzle, progress: Progress = silently) -> Deferred[list[int]]:
        """See L{ISolver.solve}."""
        if self._closed or self._search is not None:
            raise RuntimeError("the solver was closed" if self._closed else "the solver is at work")
        self._search = Search(puzzle, progress)
        solved = self._solved = Deferred(lambda _: self._give_up())
        try:
            self._start(min(self._most, puzzle.chunks))
        except OSError as failed:
            why = f"a searching process could not be started: {failed.strerror}"
            self._failed(Failure(SolverFailed(why)), self._search)
        for searcher in self._searchers:
            self._hand_out(searcher)
        return solved

    def close(self) -> Deferred[None]:
        """See L{ISolver.close}."""
        self._closed = True
        if self._search is not None:
            self._solved.cancel()
        self._give_up()
        return gatherResults([searcher.ended for searcher in self._ending]).addCallback(
            lambda _: None
        )

    def _start(self, wanted: int) -> None:
        while len(self._searchers) < wanted:
            searcher = _Searcher()
            # The environment is passed on: it may say where the interpreter's libraries are.
            self._reactor.spawnProcess(searcher, sys.executable, _COMMAND, env=None)
            self._searchers.append(searcher)
            searcher.ended.addCallback(self._forget, searcher)

    def _hand_out(self, searcher: _Searcher) -> None:
        if self._search is None or searcher not in self._searchers or not searcher.idle:
            return
        chunk = self._search.take()
        if chunk is not None:
            answer = searcher.search(self._search.puzzle, chunk)
            answer.addCallback(self._answered, self._search, chunk)
            answer.addErrback(self._failed, self._search)
            answer.addCallback(lambda _: self._hand_out(searcher))

    def _answered(self, nonce: int | None, search: Search, chunk: Chunk) -> None:
        # Recording tells the caller's progress callback, which may give up,
        # so whether this search still matters is asked twice.
        if search is self._search:
            search.record(chunk, nonce)
        if search is self._search and (nonces := search.solution()) is not None:
            self._search = None
            self._solved.callback(nonces)

    def _failed(self, reason: Failure, search: Search) -> None:
        if search is self._search:
            self._give_up()
            self._solved.errback(reason)

    def _give_up(self) -> None:
        self._search = None
        self._ending += self._searchers
        for searcher in self._searchers:
            searcher.kill()
        self._searchers = []

    def _forget(self, _: None, searcher: _Searcher) -> None:
        for searchers in (self._searchers, self._ending):
            if searcher in searchers:
                searchers.remove(searcher)


class _Searcher(ProcessProtocol):
    """
    One child process. It searches one chunk at a time.

    @ivar ended: a Deferred that fires when the process is gone and reaped.
    """

    transport: IProcessTransport

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self._answer: Deferred[bytes] | None = None
        self._line = b""
        self._complaint = b""

    @property
    def idle(self) -> bool:
        """Whether it waits for a chunk."""
        return self._answer is None

    def search(self, puzzle: Puzzle, chunk: Chunk) -> Deferred[int | None]:
        """
        @return: a Deferred that fires with a nonce of the chunk that solves
            its round, or None; it fails with L{SolverFailed} if the process ends.
        """
        self._answer = Deferred()
        answer = self._answer.addCallback(_parse)
        job = (puzzle.token, chunk.round.index, puzzle.target, chunk.start, chunk.count)
        self.transport.write((" ".join(map(str, job)) + "\n").encode("ascii"))
        return answer

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        """Part of an answer came."""
        self._line += data
        if self._line.endswith(b"\n") and not self.idle:
            line, self._line = self._line.strip(), b""
            self._take_answer().callback(line)

    def errReceived(self, data: bytes) -> None:
        """The process complains: Python's last words before it ends."""
        self._complaint = (self._complaint + data)[-_LONGEST_COMPLAINT:]

    def processEnded(self, reason: Failure) -> None:
        """The process is gone, and all that it said was read."""
        if not self.idle:
            complaint = self._complaint.decode("ascii", "replace").splitlines()[-1:]
            words = ["a searching process ended", reason.getErrorMessage(), *complaint]
            self._take_answer().errback(SolverFailed(": ".join(words)))
        self.ended.callback(None)

    def _take_answer(self) -> Deferred[bytes]:
        assert self._answer is not None
        answer, self._answer = self._answer, None
        return answer


def _cores() -> int:
    # Those that this process may run on, where the system tells.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _parse(line: bytes) -> int | None:
    if line == b"-":
        return None
    try:
        return int(line)
    except ValueError:
        raise SolverFailed(f"a searching process answered {line[:50]!r}") from None
