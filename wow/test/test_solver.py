"""The solvers, with processes that the test plays."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from wow.pow import work
from wow.pow.search import CHUNK, Puzzle, SolverFailed
from wow.pow.solver import ISolver, Solver, SynchronousSolver

PUZZLE = Puzzle("AQEDBQ", 2, CHUNK)
EASY = Puzzle("AQEDBQ", 3, 50)


class FakeProcess:
    """A child process that does what the test says."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.jobs: list[str] = []
        self.signals: list[str] = []
        self.gone = False
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        self.jobs += data.decode("ascii").splitlines()

    def signalProcess(self, name: str) -> None:
        if self.gone:
            raise ProcessExitedAlready
        self.signals.append(name)

    def answer(self) -> None:
        """Do the first job that was not done."""
        token, *numbers = self.jobs.pop(0).split()
        nonce = work.search(token, *map(int, numbers))
        self.say(b"-\n" if nonce is None else b"%d\n" % nonce)

    def say(self, data: bytes) -> None:
        self.protocol.childDataReceived(1, data)

    def end(self) -> None:
        self.gone = True
        self.protocol.processEnded(Failure(ProcessTerminated(signal=9)))


class FakeReactor:
    """Starts L{FakeProcess}es."""

    def __init__(self) -> None:
        self.processes: list[FakeProcess] = []
        self.refuses = False

    def spawnProcess(
        self, processProtocol: IProcessProtocol, *arguments: Any, **options: Any
    ) -> FakeProcess:
        if self.refuses:
            raise OSError(11, "Resource temporarily unavailable")
        self.processes.append(FakeProcess(processProtocol))
        return self.processes[-1]


class SynchronousSolverTests(SynchronousTestCase):
    """The solver for tests."""

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(ISolver, SynchronousSolver()))

    def test_solves(self) -> None:
        seen: list[tuple[int, int, bool]] = []
        nonces = self.successResultOf(
            SynchronousSolver().solve(EASY, lambda *said: seen.append(said))
        )
        smallest = [work.search(EASY.token, i, EASY.target, 0, 10_000) for i in range(3)]
        self.assertEqual(nonces, smallest)
        self.assertEqual(seen, [(i, nonces[i] + 1, True) for i in range(3)])

    def test_close(self) -> None:
        self.assertIsNone(self.successResultOf(SynchronousSolver().close()))


class SolverTests(SynchronousTestCase):
    """The solver with child processes."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.solver = Solver(cast(Any, self.reactor), processes=2)

    @property
    def processes(self) -> list[FakeProcess]:
        return self.reactor.processes

    def work_on(self) -> None:
        """All processes do their jobs until there are none."""
        while busy := [process for process in self.processes if process.jobs]:
            busy[0].answer()

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(ISolver, self.solver))

    def test_solves(self) -> None:
        solved = self.solver.solve(PUZZLE)
        self.assertNoResult(solved)
        self.work_on()
        nonces = self.successResultOf(solved)
        self.assertTrue(work.check(PUZZLE.token, nonces, PUZZLE.target))

    def test_answer_in_pieces(self) -> None:
        solved = self.solver.solve(Puzzle("AQ", 1, 1))
        for piece in (b"4", b"", b"2", b"\n"):
            self.assertNoResult(solved)
            self.processes[0].say(piece)
        self.assertEqual(self.successResultOf(solved), [42])

    def test_processes_stay_for_the_next(self) -> None:
        for _ in range(2):
            solved = self.solver.solve(PUZZLE)
            self.work_on()
            self.successResultOf(solved)
        self.assertEqual(len(self.processes), 2)

    def test_no_more_processes_than_useful(self) -> None:
        self.solver.solve(Puzzle("AQ", 1, CHUNK))
        self.assertEqual(len(self.processes), 1)

    def test_late_answer_of_the_last_puzzle(self) -> None:
        """It frees its process, and counts for nothing else."""
        first = self.solver.solve(Puzzle("AQ", 1, 2 * CHUNK))
        fast, slow = self.processes
        while not first.called:
            fast.answer()
        seen: list[object] = []
        second = self.solver.solve(PUZZLE, lambda *said: seen.append(said))
        slow.answer()
        self.assertEqual(seen, [])
        self.assertNoResult(second)
        self.assertEqual(len(slow.jobs), 1)
        self.work_on()
        self.successResultOf(second)

    def test_next_puzzle_from_the_callback(self) -> None:
        """Every process has one job at a time, even so."""
        solved = self.solver.solve(PUZZLE).addCallback(lambda _: self.solver.solve(EASY))
        while self.processes[0].jobs or self.processes[1].jobs:
            for process in self.processes:
                self.assertLessEqual(len(process.jobs), 1)
                if process.jobs:
                    process.answer()
        nonces = self.successResultOf(solved)
        self.assertTrue(work.check(EASY.token, nonces, EASY.target))

    def test_cancel(self) -> None:
        solved = self.solver.solve(PUZZLE)
        solved.cancel()
        self.failureResultOf(solved, CancelledError)
        self.assertEqual([process.signals for process in self.processes], [["KILL"], ["KILL"]])

    def test_after_cancel(self) -> None:
        """What a killed process said just before is not taken for the next puzzle's answer."""
        self.solver.solve(PUZZLE).addErrback(lambda _: None).cancel()
        solved = self.solver.solve(PUZZLE)
        killed, _, fresh, _ = self.processes
        killed.answer()
        self.assertEqual(killed.jobs, [])
        killed.end()
        self.assertEqual(len(fresh.jobs), 1)
        self.work_on()
        self.successResultOf(solved)

    def test_no_progress_after_cancel(self) -> None:
        seen: list[object] = []
        solved = self.solver.solve(PUZZLE, lambda *said: seen.append(said))
        solved.addErrback(lambda _: None).cancel()
        self.processes[0].answer()
        self.assertEqual(seen, [])

    def test_process_dies(self) -> None:
        solved = self.solver.solve(PUZZLE)
        self.processes[0].protocol.childDataReceived(2, b"Traceback\nMemoryError\n")
        self.processes[0].end()
        failure = self.failureResultOf(solved, SolverFailed)
        self.assertEqual(
            str(failure.value),
            "a searching process ended: A process has ended with a probable error condition:"
            " process ended by signal 9.: MemoryError",
        )
        self.assertEqual(self.processes[1].signals, ["KILL"])

    def test_after_death(self) -> None:
        self.failureResultOf(self._dying())
        solved = self.solver.solve(PUZZLE)
        self.work_on()
        self.successResultOf(solved)

    def _dying(self) -> Any:
        solved = self.solver.solve(PUZZLE)
        self.processes[0].jobs.clear()
        self.processes[0].end()
        self.processes[1].jobs.clear()
        return solved

    def test_idle_process_dies(self) -> None:
        solved = self.solver.solve(PUZZLE)
        self.work_on()
        self.successResultOf(solved)
        self.processes[0].end()
        solved = self.solver.solve(PUZZLE)
        self.assertEqual(len(self.processes), 3)
        self.work_on()
        self.successResultOf(solved)

    def test_no_process_to_be_had(self) -> None:
        self.reactor.refuses = True
        failure = self.failureResultOf(self.solver.solve(PUZZLE), SolverFailed)
        self.assertIn("Resource temporarily unavailable", str(failure.value))

    def test_wrong_nonce(self) -> None:
        solved = self.solver.solve(Puzzle("AQ", 1, 2**32 - 1))
        self.processes[0].say(b"1\n")
        self.failureResultOf(solved, SolverFailed)

    def test_nonsense(self) -> None:
        solved = self.solver.solve(PUZZLE)
        self.processes[0].say(b"eins\n")
        failure = self.failureResultOf(solved, SolverFailed)
        self.assertEqual(str(failure.value), "a searching process answered b'eins'")

    def test_progress_raises(self) -> None:
        solved = self.solver.solve(PUZZLE, lambda *_: 1 / 0)
        self.processes[0].answer()
        self.failureResultOf(solved, ZeroDivisionError)
        self.assertEqual(self.processes[1].signals, ["KILL"])

    def test_progress_cancels(self) -> None:
        solved = self.solver.solve(EASY, lambda *_: solved.cancel())
        self.processes[0].answer()
        self.failureResultOf(solved, CancelledError)
        self.assertEqual(self.processes[0].jobs, [])

    def test_one_at_a_time(self) -> None:
        self.solver.solve(PUZZLE)
        self.assertRaises(RuntimeError, self.solver.solve, PUZZLE)

    def test_close(self) -> None:
        solved = self.solver.solve(PUZZLE)
        closed = self.solver.close()
        self.failureResultOf(solved, CancelledError)
        self.assertEqual([process.signals for process in self.processes], [["KILL"], ["KILL"]])
        self.processes[0].end()
        self.assertNoResult(closed)
        self.processes[1].end()
        self.assertIsNone(self.successResultOf(closed))
        self.assertIsNone(self.successResultOf(self.solver.close()))
        self.assertRaises(RuntimeError, self.solver.solve, PUZZLE)

    def test_close_waits_for_cancelled(self) -> None:
        self.solver.solve(PUZZLE).addErrback(lambda _: None).cancel()
        closed = self.solver.close()
        self.assertNoResult(closed)
        for process in self.processes:
            process.end()
        self.successResultOf(closed)

    def test_close_unused(self) -> None:
        self.successResultOf(self.solver.close())

    def test_bad_number_of_processes(self) -> None:
        for number in (0, -1):
            self.assertRaises(ValueError, Solver, cast(Any, self.reactor), number)
