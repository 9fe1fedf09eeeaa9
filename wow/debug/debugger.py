"""Answers what an operator asks of a process: one thing at a time that takes its time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from structlog.typing import FilteringBoundLogger
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.web.http import CONFLICT, NOT_IMPLEMENTED

from wow.census import Stateful
from wow.debug.query import TIMED, Answer, Query, plain

if TYPE_CHECKING:
    from wow.debug.profile import Profile


class Debugger:
    """Looks at the process that it is in."""

    def __init__(
        self,
        reactor: Any,
        connections: Iterable[Stateful],
        log: FilteringBoundLogger,
        in_thread: Callable[..., Deferred[Any]] | None = None,
    ) -> None:
        """
        @param connections: clients'.
        @param in_thread: calls a function elsewhere, and gives a Deferred of
            what it returns; by default in a thread of the reactor's.
        """
        self._reactor = reactor
        self._connections = connections
        self._log = log
        self._in_thread = in_thread or self._in_pool
        self._running: str | None = None

    def _in_pool(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, function, *arguments)

    def answer(self, query: Query) -> Deferred[Answer]:
        """
        Answer a query.

        @return: a Deferred that fires when it is answered. Cancelling it stops
            what goes on for its sake.
        """
        return Deferred.fromCoroutine(self._answer(query))

    async def _answer(self, query: Query) -> Answer:
        from wow.debug import state

        if query.page == "threads":
            return plain(state.threads(sys._current_frames(), threading.enumerate()))
        if query.page == "reactor":
            return plain(state.reactor(self._reactor, self._connections))
        if query.page == "gc":
            return plain(state.garbage())
        assert query.page in TIMED, query.page
        if query.format in ("html", "speedscope") and find_spec("pyinstrument") is None:
            return plain(
                f"format={query.format} needs what is not installed; run: "
                "pip install 'wow[debug]'\nWithout it there are text and pprof.\n",
                NOT_IMPLEMENTED,
            )
        if self._running is not None:
            return plain(f"Not now: {self._running} runs here. Ask again later.\n", CONFLICT)
        self._running = f"a {query.page} of {query.seconds:g} seconds"
        self._log.info("debug", page=query.page, seconds=query.seconds)
        try:
            return await (self._profile(query) if query.page == "profile" else self._heap(query))
        finally:
            self._running = None

    async def _wait(self, seconds: float) -> None:
        await deferLater(self._reactor, seconds)

    async def _profile(self, query: Query) -> Answer:
        from wow.debug.sampler import Sampler

        sampler = Sampler()
        sampler.start()
        try:
            await self._wait(query.seconds)
        finally:
            profile = sampler.stop()
        # The loop goes on meanwhile.
        answer: Answer = await self._in_thread(_render, profile, query.format)
        return answer

    async def _heap(self, query: Query) -> Answer:
        from wow.debug.allocations import Allocations, AlreadyTraced

        allocations = Allocations()
        try:
            allocations.start()
        except AlreadyTraced:
            return plain("Python traces allocations already (PYTHONTRACEMALLOC).\n", CONFLICT)
        try:
            await self._wait(query.seconds / 2)
            allocations.look()
            await self._wait(query.seconds / 2)
            snapshot = allocations.stop()
        except BaseException:
            allocations.drop()
            raise
        return plain(await self._in_thread(allocations.show, snapshot))


def _render(profile: Profile, form: str) -> Answer:
    from wow.debug import pprof, text

    if form == "pprof":
        return Answer(200, "application/octet-stream", pprof.encode(profile))
    if form == "text":
        return plain(text.show(profile))
    from wow.debug import pages

    if form == "html":
        return Answer(200, "text/html; charset=utf-8", pages.html(profile))
    return Answer(200, "application/json", pages.speedscope(profile))
