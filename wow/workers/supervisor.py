"""
Keeps the workers: starts them, replaces who dies, and all of them when the
configuration is read again. Either all are replaced, or none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from prometheus_client import Counter
from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import BAD_GATEWAY

from wow.config import Settings
from wow.debug.query import Answer, Query, plain
from wow.workers.control import Report, Terms, pack
from wow.workers.post import Post, Spawn
from wow.workers.process import Cause, Ending, Gone, Worker
from wow.workers.share import share

CAUSES = (*get_args(Cause), "reload")
"""Why there may be another worker at a post."""


class Supervisor(Service):
    """So many posts, and what is done at all of them at once."""

    def __init__(
        self,
        workers: int,
        terms: Terms,
        spawn: Spawn,
        clock: IReactorTime,
        took_over: Callable[[Terms], None],
        called_off: Callable[[str], None],
        give_up: Callable[[], None],
        restarts: Counter,
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param took_over: is called before new workers with new terms begin to serve.
        @param called_off: is called with the reason when these cannot begin, and
            the old ones go on.
        @param give_up: is called when there is no point in going on.
        @param restarts: counts workers started in the place of others, by C{reason}.
        """
        numbers = range(1, workers + 1)
        self._posts = [Post(number, terms, spawn, clock, self) for number in numbers]
        self._clock = clock
        self._took_over = took_over
        self._called_off = called_off
        self._give_up = give_up
        self._restarts = restarts
        self._log = log
        self._given_up = False
        self._rolling: Terms | None = None
        self._queued: Terms | None = None
        self._awaited: set[Post] = set()
        self._full: set[Post] = set()
        self._stopped: Deferred[None] = Deferred()

    @property
    def serving(self) -> int:
        """How many let clients in."""
        return sum(post.serving is not None for post in self._posts)

    def startService(self) -> None:
        super().startService()
        self._full = set(self._posts)
        for post in self._posts:
            post.begin()

    def stopService(self) -> Deferred[None]:
        """
        Let all finish.

        @return: a Deferred that fires when none is left.
        """
        super().stopService()
        self._log.info("draining", workers=self.serving)
        for post in self._posts:
            post.close()
        return self._stopped

    def hurry(self) -> None:
        """Let those who finish do it now."""
        self._log.warning("hurrying", workers=len(self._full))
        for post in self._posts:
            post.hurry()

    def put_in_force(self, settings: Settings) -> None:
        """Take from new settings what needs no new workers."""
        if self._rolling is not None:
            # Those who are about to begin have not heard of these.
            self._queued = Terms(settings, self._rolling.keys)
            return
        packed = pack(share(settings, len(self._posts)))
        for post in self._posts:
            post.put_in_force(settings, packed)

    def replace(self, terms: Terms) -> None:
        """
        Replace all workers by such that have other terms. The old ones go on
        until all of the new ones are ready, or for good if one of these fails.
        """
        if not self.running:
            return
        if self._rolling is not None:
            self._queued = terms
            return
        self._rolling = terms
        self._awaited = set(self._posts)
        self._log.info("replacing", workers=len(self._posts))
        try:
            for post in self._posts:
                post.send_relief(terms)
        except OSError as error:
            self._call_off(str(error))

    def ask(self, metrics: bool, within: float) -> Deferred[list[Report | None]]:
        """
        Ask all workers how they are.

        @param metrics: whether to tell these too.
        @param within: seconds that each has to answer.
        @return: a Deferred of their answers in order, None where there is none.
        """
        return gatherResults([self._ask(post.serving, metrics, within) for post in self._posts])

    def look(self, number: int, query: Query) -> Deferred[Answer] | None:
        """
        Have a worker look at itself.

        @param number: the worker's, 1 and up.
        @return: see L{Worker.look}; None if there is no such worker, or none just now.
        """
        if number > len(self._posts):
            return None
        worker = self._posts[number - 1].serving
        return None if worker is None else worker.look(query).addErrback(_explain)

    def _ask(self, worker: Worker | None, metrics: bool, within: float) -> Deferred[Any]:
        if worker is None:
            return succeed(None)
        return worker.ask(metrics).addTimeout(within, self._clock).addErrback(lambda _: None)

    # What posts tell; see L{wow.workers.post.Owner}.

    def served(self, worker: Worker) -> None:
        self._log.info("worker_ready", worker=worker.number, pid=worker.transport.pid)

    def lost(self, post: Post, ending: Ending, wait: float) -> None:
        self._restarts.labels(ending.cause).inc()
        self._log.error("worker_lost", worker=post.number, reason=ending.text, next_in=wait)

    def hopeless(self, post: Post, ending: Ending) -> None:
        if self._given_up:
            return
        self._given_up = True
        self._log.error(
            "crash_loop",
            worker=post.number,
            reason=ending.text,
            meaning="it died again and again, so the server ends",
            remedy="see what the worker logged before",
        )
        self._give_up()

    def relief_ready(self, post: Post) -> None:
        self._awaited.discard(post)
        if self._rolling is not None and not self._awaited:
            terms, self._rolling = self._rolling, None
            self._took_over(terms)
            for each in self._posts:
                each.relieve()
            self._restarts.labels("reload").inc(len(self._posts))
            self._log.info("replaced", workers=len(self._posts))
            self._go_on()

    def relief_failed(self, post: Post, ending: Ending) -> None:
        if self._rolling is not None:
            self._call_off(f"worker {post.number}: {ending.text}")

    def emptied(self, post: Post) -> None:
        self._full.discard(post)
        if not self._full and not self._stopped.called:
            self._stopped.callback(None)

    def _call_off(self, reason: str) -> None:
        self._rolling = None
        for post in self._posts:
            post.call_off()
        reason = f"a new worker did not start: {reason}"
        self._log.error("reload_refused", reason=reason, meaning="nothing has changed")
        self._called_off(reason)
        self._go_on()

    def _go_on(self) -> None:
        queued, self._queued = self._queued, None
        if queued is not None:
            self.replace(queued)


def _explain(failure: Failure) -> Answer:
    failure.trap(Gone)
    return plain("The worker ended meanwhile.\n", BAD_GATEWAY)
