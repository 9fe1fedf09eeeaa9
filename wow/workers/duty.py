"""What a worker does when its parent tells it to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from structlog.typing import FilteringBoundLogger
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.http import INTERNAL_SERVER_ERROR

from wow.assembly.server import Server
from wow.certificate import BadCertificate
from wow.config import Settings
from wow.debug.query import Answer, plain
from wow.doors import Entrances
from wow.lifecycle import Ordered
from wow.workers.aggregate import read
from wow.workers.control import (
    Ask,
    Drain,
    Hurry,
    Look,
    LookAway,
    Order,
    PutInForce,
    Ready,
    Report,
    Seen,
    Word,
    unpack,
)


class Duty:
    """Heeds the orders of a parent, and tells it how things are."""

    def __init__(
        self,
        server: Server,
        whole: Ordered,
        entrances: Entrances,
        say: Callable[[Word], None],
        hang_up: Callable[[], None],
        stop: Callable[[], None],
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param whole: the services that are the worker, but for its entrances.
        @param say: tells the parent something.
        @param hang_up: closes the pipes, once all is said; then C{orphaned} is called.
        @param stop: ends the process.
        """
        self._server = server
        self._whole = whole
        self._entrances = entrances
        self._say = say
        self._hang_up = hang_up
        self._stop = stop
        self._log = log
        self._ending = self._ended = self._alone = False
        self._looks: dict[int, Deferred[Any]] = {}

    def begin(self) -> None:
        """All is started."""
        self._say(Ready())

    def heed(self, order: Order) -> None:
        """The parent says what to do."""
        if isinstance(order, Ask):
            self._say(self._report(order.number, order.metrics))
        elif isinstance(order, PutInForce):
            self._put_in_force(unpack(order.settings))
        elif isinstance(order, Drain):
            self._server.drain.relieved = order.relieved
            self._finish()
        elif isinstance(order, Hurry):
            self._server.drain.hurry()
        elif isinstance(order, Look):
            self._look_at(order)
        elif isinstance(order, LookAway):
            if (look := self._looks.pop(order.number, None)) is not None:
                look.cancel()
        else:
            self._entrances.setServiceParent(self._whole)

    def _put_in_force(self, settings: Settings) -> None:
        try:
            put_in_force = self._server.prepare(settings)
        except BadCertificate as error:
            self._log.error("reload_refused", reason=str(error), meaning="nothing has changed")
        else:
            put_in_force()

    def _look_at(self, order: Look) -> None:
        seen = self._server.debugger.answer(order.query)
        self._looks[order.number] = seen
        seen.addErrback(self._seen_nothing)
        seen.addCallback(self._seen, order.number)

    def _seen_nothing(self, failure: Failure) -> Answer:
        if not failure.check(CancelledError):
            self._log.error("debug_failed", reason=failure.getTraceback())
        return plain("This failed; see the log.\n", INTERNAL_SERVER_ERROR)

    def _seen(self, answer: Answer, number: int) -> None:
        # Whoever looked away wants to hear nothing.
        if self._looks.pop(number, None) is not None:
            self._say(Seen(number, answer))

    def orphaned(self, why: str) -> None:
        """There is no parent any more, and so there is to be no worker."""
        self._alone = True
        if self._ended:
            self._stop()
        else:
            self._finish()

    def _finish(self) -> None:
        if not self._ending:
            self._ending = True
            stopped: Deferred[Any] = self._whole.stopService()
            stopped.addBoth(self._finished)

    def _finished(self, _: Any) -> None:
        self._ended = True
        if self._alone:
            self._stop()
        else:
            self._say(self._report(0, metrics=True))
            self._hang_up()

    def _report(self, answers: int, metrics: bool) -> Report:
        try:
            return self._look(answers, metrics)
        except Exception:
            self._log.error("report_failed", exc_info=True)
            reasons = {"report": "could not be made; see the log"}
            return Report(answers, False, {"ready": False, "reasons": reasons})

    def _look(self, answers: int, metrics: bool) -> Report:
        ready, health = self._server.health.report()
        told = read(self._server.metrics.registry, self._server.metrics.over) if metrics else None
        return Report(answers, ready, health, told)
