"""
A post: one place that a worker serves at. Who dies there is replaced, at once
at first, and then after longer and longer whiles; and who serves there can be
relieved without a moment in which nobody does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from wow.config import Settings
from wow.workers.control import Terms
from wow.workers.process import Ending, Worker

LASTING = 10.0
"""Seconds for which a worker has to serve so that the deaths before it are forgotten."""

MOST = 8
"""
Deaths in a row that are too many. That of a worker who was never ready counts
twice: it hopes for less.
"""

_SPARE = 10.0
"""Seconds that a worker may take to end, beyond what it gives its clients."""

_FIRST_WAIT = 0.25
"""Seconds before the second restart but one, and twice as many before each further one."""


class Spawn(Protocol):
    """Makes a worker."""

    def __call__(
        self,
        number: int,
        terms: Terms,
        became_ready: Callable[[Worker], None],
        ended: Callable[[Worker, Ending], None],
    ) -> Worker:
        """
        @param number: of its post.
        @raise OSError: if the system has no process left.
        """


class Owner(Protocol):
    """Whose a post is. It is told what happens there."""

    def served(self, worker: Worker) -> None:
        """A worker begins to let clients in."""

    def lost(self, post: Post, ending: Ending, wait: float) -> None:
        """The worker on duty has died; there will be another after so many seconds."""

    def hopeless(self, post: Post, ending: Ending) -> None:
        """It has died again, and there will be no other."""

    def relief_ready(self, post: Post) -> None:
        """Who is to relieve can begin."""

    def relief_failed(self, post: Post, ending: Ending) -> None:
        """Who was to relieve has died. All is as it was before it was sent."""

    def emptied(self, post: Post) -> None:
        """The post is closed, and nobody is left there."""


class Post:
    """
    A worker is on duty at a post, starts there, or is waited for.

    @ivar number: 1 and up.
    @ivar terms: those of the worker on duty, and of whoever takes its place.
    """

    def __init__(
        self, number: int, terms: Terms, spawn: Spawn, clock: IReactorTime, owner: Owner
    ) -> None:
        self.number = number
        self.terms = terms
        self._relief_terms = terms
        self._spawn = spawn
        self._clock = clock
        self._owner = owner
        self._on_duty: Worker | None = None
        self._relief: Worker | None = None
        self._leaving: set[Worker] = set()
        self._restart: IDelayedCall | None = None
        self._failures = 0
        self._since = 0.0
        self._closed = False

    @property
    def serving(self) -> Worker | None:
        """Who lets clients in, if anybody does."""
        on_duty = self._on_duty
        return on_duty if on_duty is not None and on_duty.ready else None

    def begin(self) -> None:
        """Start the first worker."""
        self._start()

    def put_in_force(self, settings: Settings, packed: bytes) -> None:
        """
        Take from new settings what needs no new worker.

        @param packed: the same as they travel.
        """
        self.terms = Terms(settings, self.terms.keys)
        if self._on_duty is not None:
            self._on_duty.put_in_force(packed)

    def send_relief(self, terms: Terms) -> None:
        """
        Start the worker that is to take over, with new terms.

        @raise OSError: if the system has no process left.
        """
        self._relief_terms = terms
        self._relief = self._spawn(self.number, terms, self._became_ready, self._ended)

    def call_off(self) -> None:
        """Nobody is to take over after all."""
        relief, self._relief = self._relief, None
        if relief is not None:
            self._dismiss(relief, relieved=False)

    def relieve(self) -> None:
        """Who is to take over does."""
        assert self._relief is not None
        # Those who still leave from the time before have had their while.
        self.hurry()
        self._stop_waiting()
        before, self._on_duty, self._relief = self._on_duty, self._relief, None
        if before is not None:
            self._dismiss(before, relieved=True)
        self.terms, self._failures = self._relief_terms, 0
        self._let_serve(self._on_duty)

    def close(self) -> None:
        """Let the worker finish, and start no other."""
        self._closed = True
        self._stop_waiting()
        self.call_off()
        on_duty, self._on_duty = self._on_duty, None
        if on_duty is not None:
            self._dismiss(on_duty, relieved=False)
        self._tell_if_empty()

    def hurry(self) -> None:
        """Let those who finish do it now."""
        for worker in self._leaving:
            worker.hurry()

    def _start(self) -> None:
        self._restart = None
        try:
            self._on_duty = self._spawn(self.number, self.terms, self._became_ready, self._ended)
        except OSError as error:
            self._lose(Ending("died", f"could not be started: {error}"), lasted=False, weight=2)

    def _became_ready(self, worker: Worker) -> None:
        if worker is self._on_duty:
            self._let_serve(worker)
        elif worker is self._relief:
            self._owner.relief_ready(self)

    def _let_serve(self, worker: Worker) -> None:
        self._since = self._clock.seconds()
        worker.serve()
        self._owner.served(worker)

    def _dismiss(self, worker: Worker, relieved: bool) -> None:
        self._leaving.add(worker)
        if worker.ready:
            limits = self.terms.settings.limits
            worker.drain(relieved, limits.drain + limits.linger + _SPARE)
        else:
            worker.kill("died", "was not needed any more")

    def _ended(self, worker: Worker, ending: Ending) -> None:
        if worker is self._on_duty:
            self._on_duty = None
            lasted = worker.ready and self._clock.seconds() - self._since >= LASTING
            self._lose(ending, lasted, weight=1 if worker.ready else 2)
        elif worker is self._relief:
            self._relief = None
            self._owner.relief_failed(self, ending)
        else:
            self._leaving.remove(worker)
            self._tell_if_empty()

    def _lose(self, ending: Ending, lasted: bool, weight: int) -> None:
        self._failures = (0 if lasted else self._failures) + weight
        if self._failures >= MOST:
            self._owner.hopeless(self, ending)
            return
        wait = _FIRST_WAIT * 2 ** (self._failures - 3) if self._failures > 2 else 0.0
        self._owner.lost(self, ending, wait)
        self._restart = self._clock.callLater(wait, self._start)

    def _stop_waiting(self) -> None:
        restart, self._restart = self._restart, None
        if restart is not None:
            restart.cancel()

    def _tell_if_empty(self) -> None:
        if self._closed and not self._leaving:
            self._owner.emptied(self)
