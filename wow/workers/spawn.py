"""Starts the processes of workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from structlog.typing import FilteringBoundLogger

from wow.doors import Doors
from wow.logs import LogFile
from wow.workers.aggregate import Aggregate
from wow.workers.control import (
    COMPLAINTS,
    FROM_PARENT,
    LOG,
    TO_PARENT,
    Brief,
    Inherited,
    Report,
    Terms,
    frame_brief,
)
from wow.workers.process import Ending, Worker
from wow.workers.share import share

_FIRST_DOOR = TO_PARENT + 1

_COMMAND = (sys.executable, "-P", "-m", "wow.workers")
"""C{-P}: nothing is imported from where the server happens to run."""


class Nursery:
    """Makes workers; see L{wow.workers.post.Spawn}."""

    def __init__(
        self,
        workers: int,
        doors: Doors,
        aggregate: Aggregate,
        reactor: Any,
        environ: Mapping[str, str],
        file: LogFile,
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param workers: how many there are to be at once.
        @param aggregate: is told their metrics.
        @param file: what they log is written to.
        """
        self._workers = workers
        self._doors = doors
        self._aggregate = aggregate
        self._reactor = reactor
        # The same modules as here, wherever these came from.
        self._environ = {**environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._file = file
        self._log = log

    def __call__(
        self,
        number: int,
        terms: Terms,
        became_ready: Callable[[Worker], None],
        ended: Callable[[Worker, Ending], None],
    ) -> Worker:
        worker = Worker(
            number,
            frame_brief(self._brief(number, terms)),
            self._reactor,
            became_ready,
            self._reported,
            lambda worker, ending: self._gone(worker, ending, ended),
            self._file.msg,
            self._log,
        )
        with Path(os.devnull).open("rb") as nothing:
            self._reactor.spawnProcess(
                worker,
                _COMMAND[0],
                _COMMAND,
                self._environ,
                childFDs={
                    0: nothing.fileno(),
                    LOG: "r",
                    COMPLAINTS: "r",
                    FROM_PARENT: "w",
                    TO_PARENT: "r",
                    **self._sockets(number),
                },
            )
        return worker

    def _sockets(self, number: int) -> dict[int, int]:
        return {
            descriptor: door.of(number - 1).fileno()
            for descriptor, door in enumerate(self._doors.opened.values(), _FIRST_DOOR)
        }

    def _brief(self, number: int, terms: Terms) -> Brief:
        doors = [
            Inherited(key, descriptor, len(door.sockets) < self._workers)
            for descriptor, (key, door) in enumerate(self._doors.opened.items(), _FIRST_DOOR)
        ]
        return Brief(
            number,
            Terms(share(terms.settings, self._workers), terms.keys),
            tuple(doors),
            type(self._reactor).__module__,
            self._file.isatty(),
        )

    def _reported(self, worker: Worker, report: Report) -> None:
        if report.metrics is not None:
            self._aggregate.report(worker, worker.number, report.metrics)

    def _gone(
        self, worker: Worker, ending: Ending, ended: Callable[[Worker, Ending], None]
    ) -> None:
        self._aggregate.forget(worker)
        ended(worker, ending)
