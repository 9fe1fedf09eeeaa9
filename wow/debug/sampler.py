"""
Samples what the main thread executes, by a signal after every so much CPU time.

A thread that looks at the others could do it without one, but it would get to
look only when they wait for something, and so see that alone.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from types import CodeType, FrameType
from typing import Any

from wow.debug.profile import Cost, Function, Place, Profile, Stack

PERIOD = 0.01
"""Seconds of CPU time from one sample to the next, as in Go."""

_DEEPEST = 128
"""Calls of a stack that are told; the innermost of a deeper one."""

_Raw = tuple[tuple[CodeType, int], ...]


class Sampler:
    """
    Watches from C{start} to C{stop}, both in the main thread. What is kept is
    bounded by the number of samples.
    """

    def __init__(self, clock: Any = time) -> None:
        """
        @param clock: the module, or what has its names.
        """
        self._clock = clock
        # Samples, and nanoseconds, of each.
        self._found: dict[_Raw, list[int]] = defaultdict(lambda: [0, 0])

    def start(self) -> None:
        """Begin."""
        self._began = self._clock.time_ns()
        self._monotonic = self._clock.monotonic()
        self._first = self._last = self._clock.thread_time_ns()
        self._process = self._clock.process_time_ns()
        signal.signal(signal.SIGPROF, self.sample)
        # C libraries may know nothing of calls that a signal interrupts.
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, PERIOD, PERIOD)

    def sample(self, number: int, frame: FrameType | None) -> None:
        """
        Take a sample, as a handler of signals.

        Each is worth the time since the one before: it comes late where C code
        runs, or another thread had the time.
        """
        now = self._clock.thread_time_ns()
        found = self._found[_walk(frame)]
        found[0] += 1
        found[1] += now - self._last
        self._last = now

    def stop(self) -> Profile:
        """End, and tell."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        # Not as it was before: one signal more may be under way, and would end
        # the process, or complain that nobody handles it.
        signal.signal(signal.SIGPROF, _come_too_late)
        process = self._clock.process_time_ns() - self._process
        own = self._clock.thread_time_ns() - self._first
        costs: dict[Stack, Cost] = {}
        functions: dict[CodeType, Function] = {}
        for raw, (samples, nanoseconds) in self._found.items():
            costs[_places(raw, functions)] = Cost(samples, nanoseconds)
        return Profile(
            began=self._began,
            seconds=self._clock.monotonic() - self._monotonic,
            period=round(PERIOD * 10**9),
            elsewhere=max(0, process - own),
            stacks=costs,
        )


def _come_too_late(number: int, frame: FrameType | None) -> None:
    """Nobody takes samples any more."""


def _walk(frame: FrameType | None) -> _Raw:
    stack: list[tuple[CodeType, int]] = []
    while frame is not None and len(stack) < _DEEPEST:
        stack.append((frame.f_code, frame.f_lineno or 0))
        frame = frame.f_back
    return tuple(stack)


def _places(raw: _Raw, functions: dict[CodeType, Function]) -> Stack:
    for code, _ in raw:
        if code not in functions:
            functions[code] = Function(code.co_qualname, code.co_filename, code.co_firstlineno)
    return tuple(Place(functions[code], line) for code, line in raw)
