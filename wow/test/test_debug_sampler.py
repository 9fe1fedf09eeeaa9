"""The main thread is sampled by CPU time, and nothing but places in the source is told of it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from wow.debug.profile import Function, Place
from wow.debug.sampler import PERIOD, Sampler


class Times:
    """Clocks that a test sets, nanoseconds."""

    now = thread = process = 0

    def time_ns(self) -> int:
        return 1_700_000_000 * 10**9

    def monotonic(self) -> float:
        return self.now / 10**9

    def thread_time_ns(self) -> int:
        return self.thread

    def process_time_ns(self) -> int:
        return self.process


def here() -> FrameType:
    return sys._getframe(1)


class Samples(SynchronousTestCase):
    def setUp(self) -> None:
        self.times = Times()
        self.sampler = Sampler(self.times)
        self.sampler.start()
        # Those of a test are enough.
        signal.setitimer(signal.ITIMER_PROF, 0)

    def sample(self, spent: int, frame: FrameType | None) -> None:
        self.times.thread += spent
        self.sampler.sample(signal.SIGPROF, frame)

    def test_each_is_worth_the_time_since_the_one_before(self) -> None:
        def work() -> FrameType:
            return here()

        frame = work()
        for spent in (7, 30, 10):
            self.sample(spent, frame)
        self.sample(5, here())
        self.times.now, self.times.process = 2 * 10**9, 52 + 40
        profile = self.sampler.stop()
        self.assertEqual((profile.samples, profile.nanoseconds), (4, 52))
        self.assertEqual((profile.seconds, profile.elsewhere), (2, 40))
        costs = {
            stack[0].function.name.split(".")[-1]: (cost.samples, cost.nanoseconds)
            for stack, cost in profile.stacks.items()
        }
        self.assertEqual(costs["work"], (3, 47))

    def test_stack(self) -> None:
        frame = here()
        self.sample(1, frame)
        line = frame.f_lineno - 1
        ((stack, _),) = self.sampler.stop().stacks.items()
        code = frame.f_code
        function = Function("Samples.test_stack", __file__, code.co_firstlineno)
        self.assertEqual(stack[0].function, function)
        self.assertIn(stack[0].line, range(line - 1, line + 2))
        self.assertTrue(all(isinstance(place, Place) for place in stack))

    def test_deep_stack_is_cut_short(self) -> None:
        def deeper(calls: int) -> FrameType:
            return deeper(calls - 1) if calls else here()

        self.sample(1, deeper(500))
        ((stack, _),) = self.sampler.stop().stacks.items()
        self.assertEqual(len(stack), 128)
        self.assertEqual(stack[0].function.name.split(".")[-1], "deeper")

    def test_no_frame(self) -> None:
        self.sample(1, None)
        self.assertEqual(list(self.sampler.stop().stacks), [()])

    def test_tells_no_values(self) -> None:
        def work(password: str) -> FrameType:
            return here()

        self.sample(1, work("hunter2"))
        profile = self.sampler.stop()
        self.assertNotIn("hunter2", repr(dict(profile.stacks)) + repr(profile))


class Signals(SynchronousTestCase):
    def test_busy_thread_is_seen_where_it_is(self) -> None:
        sampler = Sampler()
        sampler.start()
        self.addCleanup(signal.setitimer, signal.ITIMER_PROF, 0)
        found: Any = vars(sampler)["_found"]

        def burn() -> None:
            while sum(samples for samples, _ in list(found.values())) < 10:
                sum(range(1000))

        burn()
        profile = sampler.stop()
        burnt = sum(
            cost.nanoseconds
            for stack, cost in profile.stacks.items()
            if any(place.function.name.endswith("burn") for place in stack)
        )
        self.assertGreater(burnt, 0.9 * profile.nanoseconds)
        self.assertGreaterEqual(profile.nanoseconds, 5 * PERIOD * 10**9)
        self.assertEqual(profile.period, 10**7)

    def test_time_of_other_threads_is_told_apart(self) -> None:
        sampler = Sampler()
        sampler.start()
        self.addCleanup(signal.setitimer, signal.ITIMER_PROF, 0)

        def burn() -> None:
            # A tenth of a second of it.
            begun = threading.current_thread()
            for _ in range(60):
                sum(range(100_000))
            assert begun.is_alive()

        other = threading.Thread(target=burn)
        other.start()
        other.join()
        profile = sampler.stop()
        self.assertGreater(profile.elsewhere, profile.nanoseconds)

    def test_costs_little(self) -> None:
        """A small part of the time from one to the next, with room for a busy machine."""
        sampler = Sampler()

        def deeper(calls: int) -> float:
            if calls:
                return deeper(calls - 1)
            frame, began = here(), time.thread_time()
            for _ in range(200):
                sampler.sample(signal.SIGPROF, frame)
            return (time.thread_time() - began) / 200

        sampler.start()
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.assertLess(deeper(40), PERIOD / 40)
        sampler.stop()

    def test_late_signal_ends_nothing(self) -> None:
        sampler = Sampler()
        sampler.start()
        sampler.stop()
        self.assertEqual(signal.getitimer(signal.ITIMER_PROF), (0, 0))
        os.kill(os.getpid(), signal.SIGPROF)
