"""Posts are always manned, whoever dies or is relieved; all workers are replaced, or none."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import prometheus_client
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.config import Settings, load
from wow.debug.query import Answer, Query, plain
from wow.logs import make_logger
from wow.pow.keys import KeyRing, generate
from wow.workers.control import Terms, unpack
from wow.workers.process import Ending, Gone, Worker
from wow.workers.share import share
from wow.workers.supervisor import Supervisor

DIED = Ending("died", "killed by signal 9")

KEYS = KeyRing([generate()])


def terms(idle: int = 30) -> Terms:
    """Terms that can be told from others."""
    return Terms(load(None, {"WOW_LIMITS__IDLE": str(idle)}), KEYS)


class Transport:
    pid = 4711


class FakeWorker:
    """
    Notes what it is told.

    @ivar told: each order, in a word.
    """

    transport = Transport()

    def __init__(
        self,
        number: int,
        terms: Terms,
        became_ready: Callable[[Worker], None],
        ended: Callable[[Worker, Ending], None],
    ) -> None:
        self.number = number
        self.terms = terms
        self.ready = False
        self.gone = False
        self.told: list[str] = []
        self.in_force: Settings | None = None
        self.drained: tuple[bool, float] | None = None
        self._became_ready = became_ready
        self._ended = ended

    def become_ready(self) -> None:
        self.ready = True
        self._became_ready(cast(Worker, self))

    def end(self, ending: Ending = DIED) -> None:
        self.gone = True
        self._ended(cast(Worker, self), ending)

    def serve(self) -> None:
        self.told.append("serve")

    def hurry(self) -> None:
        self.told.append("hurry")

    def drain(self, relieved: bool, within: float) -> None:
        self.told.append("drain")
        self.drained = (relieved, within)

    def kill(self, cause: str, text: str) -> None:
        self.told.append("kill")

    def look(self, query: Query) -> Deferred[Answer]:
        self.looked: Deferred[Answer] = Deferred()
        return self.looked

    def put_in_force(self, packed: bytes) -> None:
        self.in_force = unpack(packed)

    @property
    def serves(self) -> bool:
        return self.told == ["serve"] and not self.gone

    @property
    def dismissed(self) -> bool:
        return "drain" in self.told or "kill" in self.told


class Supervised:
    """A supervisor of so many workers, and all that it made and did."""

    def __init__(self, workers: int) -> None:
        self.clock = Clock()
        self.logged = io.StringIO()
        self.workers: list[FakeWorker] = []
        self.taken_over: list[Terms] = []
        self.called_off: list[str] = []
        self.given_up = 0
        self.no_process_left = False
        self.registry = prometheus_client.CollectorRegistry()
        self.supervisor = Supervisor(
            workers,
            terms(),
            self.spawn,
            self.clock,
            self.taken_over.append,
            self.called_off.append,
            self.give_up,
            prometheus_client.Counter("restarts", "-", ["reason"], registry=self.registry),
            make_logger(self.logged, "info", "json"),
        )

    def spawn(
        self,
        number: int,
        terms: Terms,
        became_ready: Callable[[Worker], None],
        ended: Callable[[Worker, Ending], None],
    ) -> Worker:
        if self.no_process_left:
            raise OSError(11, "Resource temporarily unavailable")
        self.workers.append(FakeWorker(number, terms, became_ready, ended))
        return cast(Worker, self.workers[-1])

    def give_up(self) -> None:
        self.given_up += 1

    def restarts(self, reason: str) -> float:
        return self.registry.get_sample_value("restarts_total", {"reason": reason}) or 0

    def events(self, name: str) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in self.logged.getvalue().splitlines()]
        return [event for event in events if event["event"] == name]

    def newest(self) -> FakeWorker:
        return self.workers[-1]


class Supervising(SynchronousTestCase):
    workers = 2

    def setUp(self) -> None:
        self.it = Supervised(self.workers)
        self.supervisor = self.it.supervisor
        self.supervisor.startService()

    def all_ready(self) -> list[FakeWorker]:
        for worker in self.it.workers:
            worker.become_ready()
        return list(self.it.workers)


class Starting(Supervising):
    def test_all_at_the_same_time(self) -> None:
        self.assertEqual([worker.number for worker in self.it.workers], [1, 2])

    def test_each_serves_once_it_is_ready(self) -> None:
        first, second = self.it.workers
        second.become_ready()
        self.assertEqual((first.told, second.told), ([], ["serve"]))
        self.assertEqual(self.supervisor.serving, 1)
        first.become_ready()
        self.assertEqual(self.supervisor.serving, 2)

    def test_is_logged(self) -> None:
        self.all_ready()
        ready = self.it.events("worker_ready")
        self.assertEqual(
            [(event["worker"], event["pid"]) for event in ready], [(1, 4711), (2, 4711)]
        )


class Looking(Supervising):
    query = Query("threads")

    def test_at_one_that_serves(self) -> None:
        first, second = self.all_ready()
        looked = self.supervisor.look(2, self.query)
        assert looked is not None
        second.looked.callback(plain("seen"))
        self.assertEqual(self.successResultOf(looked), plain("seen"))
        self.assertFalse(hasattr(first, "looked"))

    def test_at_nobody(self) -> None:
        self.assertIsNone(self.supervisor.look(1, self.query))
        self.all_ready()
        self.assertIsNone(self.supervisor.look(3, self.query))

    def test_at_one_that_ends(self) -> None:
        first, _ = self.all_ready()
        looked = self.supervisor.look(1, self.query)
        assert looked is not None
        first.looked.errback(Gone())
        self.assertEqual(self.successResultOf(looked).status, 502)

    def test_not_any_more(self) -> None:
        first, _ = self.all_ready()
        looked = self.supervisor.look(1, self.query)
        assert looked is not None
        looked.cancel()
        self.failureResultOf(looked, CancelledError)
        self.assertTrue(first.looked.called)


class Dying(Supervising):
    def die(self, ready: bool) -> float | None:
        """One dies at the first post; how long it takes until there is another, or None."""
        worker = next(w for w in reversed(self.it.workers) if w.number == 1)
        if ready:
            worker.become_ready()
        before = len(self.it.workers)
        worker.end()
        waited = 0.0
        while len(self.it.workers) == before:
            if not self.it.clock.getDelayedCalls():
                return None
            call = self.it.clock.getDelayedCalls()[0]
            waited = call.getTime() - self.it.clock.seconds()
            self.it.clock.advance(waited)
        return waited

    def test_is_replaced_at_once(self) -> None:
        self.all_ready()[0].end()
        self.it.clock.advance(0)
        replacement = self.it.newest()
        self.assertEqual((len(self.it.workers), replacement.number), (3, 1))
        replacement.become_ready()
        self.assertTrue(replacement.serves)

    def test_replacement_has_the_same_terms(self) -> None:
        first = self.all_ready()[0]
        first.end()
        self.it.clock.advance(0)
        self.assertIs(self.it.newest().terms, first.terms)

    def test_others_serve_on(self) -> None:
        first, second = self.all_ready()
        first.end()
        self.assertTrue(second.serves)
        self.assertEqual(self.supervisor.serving, 1)

    def test_is_told_and_counted(self) -> None:
        self.all_ready()[0].end(Ending("silent", "did not answer"))
        (lost,) = self.it.events("worker_lost")
        self.assertEqual((lost["worker"], lost["reason"]), (1, "did not answer"))
        self.assertEqual((self.it.restarts("silent"), self.it.restarts("died")), (1, 0))

    def test_again_and_again(self) -> None:
        waits = [self.die(ready=True) for _ in range(8)]
        self.assertEqual(waits, [0, 0, 0.25, 0.5, 1, 2, 4, None])
        self.assertEqual(self.it.given_up, 1)
        (loop,) = self.it.events("crash_loop")
        self.assertEqual((loop["worker"], loop["reason"]), (1, DIED.text))

    def test_of_two_is_told_once(self) -> None:
        for _ in range(4):
            for worker in self.it.workers[-2:]:
                worker.end()
            self.it.clock.advance(2)
        self.assertEqual((self.it.given_up, len(self.it.events("crash_loop"))), (1, 1))

    def test_before_it_is_ready(self) -> None:
        waits = [self.die(ready=False) for _ in range(4)]
        self.assertEqual(waits, [0, 0.5, 2, None])
        self.assertEqual(self.it.given_up, 1)

    def test_after_it_served_for_long_is_forgotten(self) -> None:
        for _ in range(20):
            self.it.workers[-1 if len(self.it.workers) > 2 else 0].become_ready()
            self.it.clock.advance(10)
            self.assertEqual(self.die(ready=False), 0)
        self.assertEqual(self.it.given_up, 0)

    def test_who_never_served_did_not_serve_for_long(self) -> None:
        self.it.clock.advance(100)
        self.assertEqual([self.die(ready=False) for _ in range(4)], [0, 0.5, 2, None])

    def test_where_there_is_never_a_process_left(self) -> None:
        self.all_ready()
        self.it.no_process_left = True
        self.it.workers[0].end()
        for _ in range(20):
            self.it.clock.advance(1)
        waits = [event["next_in"] for event in self.it.events("worker_lost")]
        self.assertEqual(waits, [0, 0.25, 1, 4])
        self.assertEqual(self.it.given_up, 1)

    def test_where_the_system_has_no_process_left(self) -> None:
        self.all_ready()
        self.it.no_process_left = True
        self.it.workers[0].end()
        self.it.clock.pump([0, 0.25])
        self.assertIn("temporarily unavailable", self.it.events("worker_lost")[-1]["reason"])
        self.it.no_process_left = False
        self.it.clock.advance(5)
        self.assertEqual(self.it.newest().number, 1)


class Replacing(Supervising):
    def setUp(self) -> None:
        super().setUp()
        self.before = self.all_ready()
        self.new = terms(idle=7)

    def replace(self) -> list[FakeWorker]:
        started = len(self.it.workers)
        self.supervisor.replace(self.new)
        return self.it.workers[started:]

    def test_old_ones_serve_until_all_new_ones_are_ready(self) -> None:
        first, second = self.replace()
        first.become_ready()
        self.assertEqual([worker.told for worker in self.before], [["serve"], ["serve"]])
        self.assertEqual(first.told, [])
        second.become_ready()
        self.assertEqual([worker.told for worker in self.before], [["serve", "drain"]] * 2)
        self.assertTrue(first.serves and second.serves)

    def test_new_ones_have_the_new_terms(self) -> None:
        self.assertEqual([worker.terms for worker in self.replace()], [self.new, self.new])

    def test_who_takes_their_place_later_has_them_too(self) -> None:
        for worker in self.replace():
            worker.become_ready()
        self.assertEqual(self.it.taken_over, [self.new])
        self.it.newest().end()
        self.it.clock.advance(0)
        self.assertIs(self.it.newest().terms, self.new)

    def test_old_ones_know_that_they_are_relieved_and_have_their_time(self) -> None:
        for worker in self.replace():
            worker.become_ready()
        self.assertEqual(self.before[0].drained, (True, 25))

    def test_old_ones_may_end(self) -> None:
        for worker in self.replace():
            worker.become_ready()
        for worker in self.before:
            worker.end()
        self.it.clock.advance(100)
        self.assertEqual(len(self.it.workers), 4)
        self.assertEqual(self.it.events("worker_lost"), [])
        self.assertEqual(self.it.restarts("reload"), 2)

    def test_if_one_fails_all_is_as_it_was(self) -> None:
        first, second = self.replace()
        first.become_ready()
        second.end()
        self.assertEqual([worker.told for worker in self.before], [["serve"], ["serve"]])
        self.assertEqual(first.told, ["drain"])
        (refused,) = self.it.events("reload_refused")
        self.assertIn(f"worker 2: {DIED.text}", refused["reason"])
        self.assertEqual(self.it.taken_over, [])
        self.before[0].end()
        self.it.clock.advance(0)
        self.assertIs(self.it.newest().terms, self.before[0].terms)

    def test_if_no_process_is_left_all_is_as_it_was(self) -> None:
        self.it.no_process_left = True
        self.replace()
        self.assertEqual([worker.told for worker in self.before], [["serve"], ["serve"]])
        (refused,) = self.it.events("reload_refused")
        self.assertEqual(self.it.called_off, [refused["reason"]])

    def test_who_is_not_needed_any_more_is_not_waited_for(self) -> None:
        first, second = self.replace()
        second.end()
        self.assertEqual(first.told, ["kill"])
        first.end()
        self.assertEqual(len(self.it.events("reload_refused")), 1)

    def test_again_meanwhile_comes_after(self) -> None:
        replacements = self.replace()
        again, last = terms(idle=8), terms(idle=9)
        self.supervisor.replace(again)
        self.supervisor.replace(last)
        self.assertEqual(len(self.it.workers), 4)
        for worker in replacements:
            worker.become_ready()
        self.assertEqual([worker.terms for worker in self.it.workers[4:]], [last, last])

    def test_who_leaves_since_the_time_before_hurries(self) -> None:
        for _ in range(2):
            for worker in self.replace():
                worker.become_ready()
        self.assertEqual(self.before[0].told, ["serve", "drain", "hurry"])

    def test_one_that_dies_meanwhile_is_replaced_meanwhile(self) -> None:
        reliefs = self.replace()
        self.before[0].end()
        self.it.clock.advance(0)
        replacement = self.it.newest()
        self.assertIs(replacement.terms, self.before[0].terms)
        replacement.become_ready()
        self.assertTrue(replacement.serves)
        for worker in reliefs:
            worker.become_ready()
        self.assertEqual(replacement.told, ["serve", "drain"])

    def test_a_post_that_nobody_is_at_is_taken_over(self) -> None:
        reliefs = self.replace()
        self.before[0].end()
        for worker in reliefs:
            worker.become_ready()
        self.it.clock.advance(100)
        self.assertEqual(len(self.it.workers), 4)

    def test_deaths_before_it_are_forgotten(self) -> None:
        for _ in range(3):
            self.it.workers[0 if len(self.it.workers) == 2 else -1].end()
            self.it.clock.advance(4)
        reliefs = self.replace()
        for worker in reliefs:
            worker.become_ready()
        reliefs[0].end()
        self.assertEqual(self.it.events("worker_lost")[-1]["next_in"], 0)

    def test_works_after_it_failed(self) -> None:
        self.replace()[0].end()
        for worker in self.replace():
            worker.become_ready()
        self.assertEqual(self.it.taken_over, [self.new])

    def test_again_meanwhile_comes_after_it_failed_too(self) -> None:
        first, _ = self.replace()
        again = terms(idle=8)
        self.supervisor.replace(again)
        first.end()
        self.assertEqual([worker.terms for worker in self.it.workers[4:]], [again, again])

    def test_who_is_called_off_takes_nobodys_place(self) -> None:
        called_off, failing = self.replace()
        failing.end()
        _, second = self.replace()
        second.become_ready()
        called_off.become_ready()
        self.assertEqual(self.it.taken_over, [])


class PuttingInForce(Supervising):
    def test_reaches_all_and_who_comes_after_them(self) -> None:
        first, second = self.all_ready()
        new = terms(idle=7).settings
        self.supervisor.put_in_force(new)
        # Each has its share of the totals, as those who begin with it.
        shared = share(new, 2)
        self.assertEqual((first.in_force, second.in_force), (shared, shared))
        first.end()
        self.it.clock.advance(0)
        self.assertEqual(self.it.newest().terms.settings, new)

    def test_meanwhile_reaches_those_who_replace_them(self) -> None:
        self.all_ready()
        self.supervisor.replace(terms(idle=7))
        reliefs = self.it.workers[2:]
        new = terms(idle=8).settings
        self.supervisor.put_in_force(new)
        for worker in reliefs:
            worker.become_ready()
        self.assertEqual([worker.terms.settings for worker in self.it.workers[4:]], [new, new])


class Stopping(Supervising):
    def test_waits_for_all(self) -> None:
        first, second = self.all_ready()
        stopped = self.supervisor.stopService()
        self.assertEqual((first.drained, second.drained), ((False, 25), (False, 25)))
        first.end()
        self.assertNoResult(stopped)
        second.end()
        self.successResultOf(stopped)

    def test_who_is_not_ready_is_not_waited_for(self) -> None:
        first, second = self.it.workers
        self.supervisor.stopService()
        self.assertEqual((first.told, second.told), (["kill"], ["kill"]))

    def test_starts_nobody_any_more(self) -> None:
        first, second = self.all_ready()
        first.end()
        self.supervisor.stopService()
        second.end()
        self.supervisor.replace(terms())
        self.it.clock.advance(100)
        self.assertEqual(len(self.it.workers), 2)

    def test_in_the_middle_of_replacing(self) -> None:
        self.all_ready()
        self.supervisor.replace(terms())
        self.supervisor.replace(terms())
        stopped = self.supervisor.stopService()
        self.assertEqual(
            [worker.told[-1] for worker in self.it.workers], ["drain"] * 2 + ["kill"] * 2
        )
        for worker in self.it.workers:
            worker.end()
        self.successResultOf(stopped)
        self.assertEqual(len(self.it.workers), 4)

    def test_hurry(self) -> None:
        first, second = self.all_ready()
        self.supervisor.stopService()
        first.end()
        self.supervisor.hurry()
        self.assertEqual(second.told, ["serve", "drain", "hurry"])


class Life(RuleBasedStateMachine):
    """Anything may happen, in any order."""

    @initialize(workers=st.integers(1, 3))
    def start(self, workers: int) -> None:
        self.posts = workers
        self.it = Supervised(workers)
        self.it.supervisor.startService()
        self.stopped: Any = None

    def alive(self) -> list[FakeWorker]:
        return [worker for worker in self.it.workers if not worker.gone]

    @rule(index=st.integers(0, 8))
    def become_ready(self, index: int) -> None:
        waiting = [w for w in self.alive() if not w.ready]
        if waiting:
            waiting[index % len(waiting)].become_ready()

    @rule(index=st.integers(0, 8))
    def end(self, index: int) -> None:
        if alive := self.alive():
            alive[index % len(alive)].end()

    @rule(idle=st.integers(1, 100))
    def replace(self, idle: int) -> None:
        self.it.supervisor.replace(terms(idle))

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.it.clock.advance(seconds)

    @rule(available=st.booleans())
    def run_out_of_processes(self, available: bool) -> None:
        self.it.no_process_left = not available

    @rule()
    def hurry(self) -> None:
        self.it.supervisor.hurry()

    @rule(really=st.integers(0, 9))
    def stop(self, really: int) -> None:
        if self.stopped is None and not really:
            self.stopped = self.it.supervisor.stopService()
            self.made = len(self.it.workers)

    @invariant()
    def one_serves_at_a_post(self) -> None:
        serving = Counter(worker.number for worker in self.it.workers if worker.serves)
        assert all(count == 1 for count in serving.values())
        assert self.it.supervisor.serving == len(serving)

    @invariant()
    def all_serve_by_the_same_terms(self) -> None:
        assert len({id(worker.terms) for worker in self.it.workers if worker.serves}) <= 1

    @invariant()
    def nobody_is_at_a_loose_end(self) -> None:
        # One on duty, or about to be, and one to relieve it.
        staying = Counter(w.number for w in self.alive() if not w.dismissed)
        assert all(count <= 2 for count in staying.values())

    @invariant()
    def every_post_is_manned_or_will_be(self) -> None:
        if self.stopped is None and not self.it.given_up:
            manned = {worker.number for worker in self.alive() if not worker.dismissed}
            assert len(manned) == self.posts or self.it.clock.getDelayedCalls()

    @invariant()
    def the_end_is_the_end(self) -> None:
        if self.stopped is not None:
            assert len(self.it.workers) == self.made
            assert all(worker.dismissed for worker in self.alive())
            assert self.stopped.called == (not self.alive())


class AnyLife(SynchronousTestCase):
    def test_posts_are_manned_by_one_each_and_by_the_same_terms(self) -> None:
        run_state_machine_as_test(Life, settings=settings(max_examples=100))
