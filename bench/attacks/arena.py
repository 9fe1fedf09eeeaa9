"""
One attack from start to end: a server, honest clients, the attacker, and a look at them.

Nothing is judged here; what was seen is a L{Course}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from bench.attacks.attack import Attack
from bench.attacks.honest import CLIENTS, Record
from bench.attacks.server import Process, Server, end, running

_EVERY = 0.5
"""Seconds between two looks."""

_GRACE = 15.0
"""Seconds in which the attacker must have ended once its time is over."""

_SETTLED = 20.0
"""
Seconds that are left to pass after an attack in any case: the server trims
its memory each ten.
"""


@dataclass(frozen=True)
class Phases:
    """
    How long everything takes, in seconds.

    @ivar attack: None for as long as the attack itself says.
    @ivar after: at most.
    """

    before: float = 5.0
    attack: float | None = None
    after: float = 75.0


@dataclass(frozen=True)
class Sample:
    """
    What was seen at a time.

    @ivar at: the time (monotonic).
    @ivar price: hashes asked of a client that nothing is known of, if the server said.
    @ivar cpu: seconds that the server used so far.
    @ivar memory: MiB that it has resident, mapped files left out.
    @ivar attacker_cpu: seconds that the attacker used so far.
    """

    at: float
    price: float | None
    connections: float | None
    cpu: float
    memory: float
    attacker_cpu: float


@dataclass
class Course:
    """
    All that was seen of an attack. Times are monotonic.

    @ivar priority: whether the honest clients came before the attacker on their core.
    @ivar attacker: its own report.
    @ivar log: the server's log lines, by level.
    """

    attack: Attack
    began: float
    attacked: float = 0.0
    relieved: float = 0.0
    ended: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    priority: bool = False
    attacker: dict[str, Any] = field(default_factory=dict)
    log: dict[str, int] = field(default_factory=dict)
    survived: bool = True


def stage(attack: Attack, phases: Phases, checkout: Path) -> Course:
    """
    Have a server attacked.

    @param checkout: where the project is whose server it is.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    seconds = attack.seconds if phases.attack is None else phases.attack
    try:
        with (
            running(checkout, cores[-1], attack.environ) as server,
            _child("attacker", attack.name, str(server.port), str(seconds)) as attacker,
            _child("honest", str(server.port)) as honest,
        ):
            course = Course(attack, monotonic())
            _Staging(course, server, attacker, honest).play(phases, seconds)
            return course
    finally:
        os.sched_setaffinity(0, cores)


class _Staging:
    """The order of things while an attack is staged."""

    def __init__(
        self,
        course: Course,
        server: Server,
        attacker: subprocess.Popen[bytes],
        honest: subprocess.Popen[bytes],
    ) -> None:
        self._course = course
        self._server = server
        self._attacker = attacker
        self._honest = honest
        self._attacker_use = Process(attacker.pid)

    def play(self, phases: Phases, seconds: float) -> None:
        course = self._course
        assert self._attacker.stdout is not None
        self._attacker.stdout.readline()
        self._watch(phases.before, lambda: False)
        self._go(seconds)
        self._watch(phases.after, self._calm)
        course.ended = monotonic()
        course.log = self._server.log()
        course.survived = self._server.alive
        said, _ = self._honest.communicate()
        report = json.loads(said)
        course.priority = report["priority"]
        course.records = [Record(**record) for record in report["records"]]

    def _go(self, seconds: float) -> None:
        course = self._course
        assert self._attacker.stdin is not None
        self._attacker.stdin.write(b"go\n")
        self._attacker.stdin.flush()
        self._watch(seconds + _GRACE, lambda: self._attacker.poll() is not None)
        if self._attacker.poll() is None:
            self._attacker.kill()
        said, _ = self._attacker.communicate()
        if self._attacker.returncode:
            raise RuntimeError("the attacker failed, or did not end in time")
        course.attacker = json.loads(said)
        # Its own word for it: what is seen here may be seen late.
        course.attacked, course.relieved = course.attacker["began"], course.attacker["ended"]

    def _watch(self, seconds: float, done: Callable[[], bool]) -> None:
        """Look again and again, for so long at most."""
        finish = monotonic() + seconds
        while monotonic() < finish and not done():
            sleep(max(0.0, min(_EVERY, finish - monotonic())))
            self._look()

    def _look(self) -> None:
        at, cpu, memory = monotonic(), self._server.cpu(), self._server.memory()
        metrics = self._server.metrics()
        self._course.samples.append(
            Sample(
                at,
                metrics.get("wow_price_hashes"),
                metrics.get("wow_connections"),
                cpu,
                memory,
                self._attacker_use.cpu(),
            )
        )

    def _calm(self) -> bool:
        """Whether the price is what it was, and all connections but the honest ones are gone."""
        course = self._course
        if monotonic() - course.relieved < _SETTLED:
            return False
        usual = base_price(course)
        return all(
            sample.price is not None
            and is_base(sample.price, usual)
            and (sample.connections or 0) <= 2 * CLIENTS
            for sample in course.samples[-4:]
        )


def base_price(course: Course) -> float:
    """The least that the server asked before the attack."""
    before = [
        sample.price
        for sample in course.samples
        if sample.price is not None and sample.at <= course.attacked
    ]
    return min(before, default=0.0)


def is_base(price: float, base: float) -> bool:
    """Whether a price is the one at rest, but for rounding."""
    return price <= 1.01 * base


@contextmanager
def _child(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", f"bench.attacks.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        end(process)
