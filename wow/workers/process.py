"""One worker's process, as its parent sees it: told what to do, listened to, and watched."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from attrs import frozen
from structlog.typing import FilteringBoundLogger
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from wow.debug.query import Answer, Query
from wow.workers.control import (
    COMPLAINTS,
    FROM_PARENT,
    LOG,
    TO_PARENT,
    WORDS,
    Ask,
    Channel,
    Drain,
    Hurry,
    Look,
    LookAway,
    Order,
    PutInForce,
    Ready,
    Report,
    Seen,
    Serve,
    Word,
    frame,
)
from wow.workers.lines import Lines

_READY_WITHIN = 60.0
"""Seconds that a worker has to become ready."""

_TICK = 1.0
"""Seconds from one question to the next."""

_PATIENCE = 5
"""
Questions without an answer after which a worker is ended. They are counted,
and not the time, since it may be the parent who was stopped.
"""

_METRICS_EACH = 5
"""Every so many questions metrics are asked for too, so that few are lost with a worker."""


class Gone(Exception):
    """The worker that was asked is gone."""


Cause = Literal["died", "silent", "late"]
"""
Why a worker's process ended: by itself, or by its parent, since it did not
answer, or was not done in time.
"""


@frozen
class Ending:
    """
    How a worker's process ended.

    @ivar text: says it to an operator.
    """

    cause: Cause
    text: str


class Worker(ProcessProtocol):
    """
    A process that is to become a worker, is one, or is to end.

    @ivar number: of its place, 1 and up.
    @ivar ready: whether it ever was.
    """

    transport: IProcessTransport

    def __init__(
        self,
        number: int,
        brief: bytes,
        clock: IReactorTime,
        became_ready: Callable[[Worker], None],
        reported: Callable[[Worker, Report], None],
        ended: Callable[[Worker, Ending], None],
        write_line: Callable[[str], None],
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param brief: as it travels; see L{wow.workers.control.frame_brief}.
        @param reported: is told of each report, asked for by whomsoever.
        @param ended: is called once, when the process is gone and reaped.
        @param write_line: writes a line that it logged.
        """
        self.number = number
        self.ready = False
        self._brief = brief
        self._clock = clock
        self._became_ready = became_ready
        self._reported = reported
        self._ended = ended
        self._log = log
        self._ending: Ending | None = None
        self._deadline: IDelayedCall | None = None
        self._asked: dict[int, Deferred[Report]] = {}
        self._questions = self._missed = self._looks = 0
        self._looking: dict[int, Deferred[Answer]] = {}
        self._watching = LoopingCall(self._look)
        self._watching.clock = clock
        self._channel = Channel(WORDS, self._heard, self._deaf)
        self._hears = True
        self._lines = {LOG: Lines(write_line), COMPLAINTS: Lines(self._complain)}

    # What it is told.

    def serve(self) -> None:
        """Let clients in. It is ready."""
        self._tell(Serve())

    def put_in_force(self, settings: bytes) -> None:
        """
        Take from new settings what needs no new worker.

        @param settings: as L{wow.workers.control.pack} gives them.
        """
        self._tell(PutInForce(settings))

    def ask(self, metrics: bool) -> Deferred[Report]:
        """
        Ask how it is.

        @param metrics: whether to tell these too.
        @return: a Deferred of its answer. It fails with L{Gone} if there will
            be none, but may take its time.
        """
        self._questions += 1
        self._asked[self._questions] = answer = Deferred[Report]()
        self._tell(Ask(self._questions, metrics))
        return answer

    def look(self, query: Query) -> Deferred[Answer]:
        """
        Have it look at itself.

        @return: a Deferred of what it sees. It fails with L{Gone} if the worker
            ends before. Cancelling it stops what goes on for its sake.
        """
        self._looks = number = self._looks + 1

        def look_away(_: object) -> None:
            del self._looking[number]
            self._tell(LookAway(number))

        self._looking[number] = seen = Deferred[Answer](look_away)
        self._tell(Look(number, query))
        return seen

    def drain(self, relieved: bool, within: float) -> None:
        """
        Finish, and end.

        @param relieved: whether another has taken over.
        @param within: seconds. Then it is ended.
        """
        self._tell(Drain(relieved))
        self._wait(within)

    def hurry(self) -> None:
        """Finish now."""
        self._tell(Hurry())

    def kill(self, cause: Cause, text: str) -> None:
        """End it at once, whatever it is doing."""
        self._ending = self._ending or Ending(cause, text)
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def _tell(self, order: Order) -> None:
        if self._hears:
            self.transport.writeToChild(FROM_PARENT, frame(order))

    # What it says.

    def connectionMade(self) -> None:
        self.transport.writeToChild(FROM_PARENT, self._brief)
        self._wait(_READY_WITHIN)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == TO_PARENT:
            self._channel.dataReceived(data)
        else:
            self._lines[childFD].feed(data)

    def childConnectionLost(self, childFD: int) -> None:
        self._hears = self._hears and childFD != FROM_PARENT

    def _heard(self, word: Word) -> None:
        if isinstance(word, Ready):
            self._is_ready()
        elif isinstance(word, Seen):
            if (seen := self._looking.pop(word.answers, None)) is not None:
                seen.callback(word.answer)
        else:
            self._reported(self, word)
            if (answer := self._asked.pop(word.answers, None)) is not None:
                answer.callback(word)

    def _is_ready(self) -> None:
        self.ready = True
        self._wait(None)
        self._watching.start(_TICK, now=False)
        self._became_ready(self)

    def _deaf(self, why: str) -> None:
        self.kill("died", why)

    def _complain(self, line: str) -> None:
        self._log.warning("worker_says", worker=self.number, text=line)

    # Watching.

    def _look(self) -> None:
        self._missed = self._missed + 1 if self._asked else 0
        if self._missed >= _PATIENCE:
            self.kill("silent", f"did not answer for {_PATIENCE * _TICK:g} seconds")
        else:
            asked = self.ask((self._questions + 1) % _METRICS_EACH == 0)
            asked.addErrback(lambda gone: gone.trap(Gone))

    def _wait(self, seconds: float | None) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if seconds is not None:
            self._deadline = self._clock.callLater(
                seconds, self.kill, "late", f"was not done in {seconds:g} seconds"
            )

    def processEnded(self, reason: Failure) -> None:
        self._wait(None)
        if self._watching.running:
            self._watching.stop()
        for lines in self._lines.values():
            lines.end()
        self._hears = False
        ending = self._ending or Ending("died", reason.getErrorMessage())
        waiting: list[Deferred[Any]] = [*self._asked.values(), *self._looking.values()]
        self._asked, self._looking = {}, {}
        for answer in waiting:
            answer.errback(Gone())
        self._ended(self, ending)
