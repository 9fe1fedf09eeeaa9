"""A worker's process gets the sockets and pipes that its brief speaks of."""

from __future__ import annotations

import io
import os
import socket
from typing import Any, cast
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.config import load
from wow.doors import Door, Doors
from wow.logs import LogFile, make_logger
from wow.metrics import Metrics
from wow.pow.keys import KeyRing, generate
from wow.workers.aggregate import Aggregate, read
from wow.workers.control import Brief, Report, Terms, unpack
from wow.workers.process import Ending, Worker
from wow.workers.spawn import Nursery

DIED = Ending("died", "killed by signal 9")


class Socket:
    def __init__(self, descriptor: int) -> None:
        self.fileno = lambda: descriptor


def door(*descriptors: int) -> Door:
    return Door(tuple(cast(socket.socket, Socket(each)) for each in descriptors))


class Reactor(Clock):
    """
    @ivar spawned: the arguments of each process.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[tuple[Any, ...]] = []

    def spawnProcess(self, *arguments: Any, childFDs: dict[int, int | str]) -> None:
        assert os.fstat(cast(int, childFDs[0]))
        self.spawned.append((*arguments, childFDs))


class Spawning(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.aggregate = Aggregate(list)
        opened = {"listen.0": door(21, 22), "listen.1": door(30)}
        self.ended: list[Any] = []
        self.nursery = Nursery(
            2,
            cast(Doors, mock.Mock(opened=opened)),
            self.aggregate,
            self.reactor,
            {"HOME": "/", "PYTHONPATH": "/elsewhere"},
            LogFile(io.StringIO()),
            make_logger(io.StringIO(), "info", "json"),
        )
        self.terms = Terms(load(None, {}), KeyRing([generate()]))

    def spawn(self, number: int) -> tuple[Worker, Brief, dict[int, int | str]]:
        worker = self.nursery(
            number, self.terms, lambda worker: None, lambda *ended: self.ended.append(ended)
        )
        *_, sockets = self.reactor.spawned[-1]
        written = mock.Mock()
        worker.makeConnection(written)
        data = written.writeToChild.call_args.args[1]
        return worker, unpack(data[4:]), sockets

    def test_sockets(self) -> None:
        for number, descriptor in ((1, 21), (2, 22)):
            _, brief, sockets = self.spawn(number)
            tcp, unix = brief.doors
            self.assertEqual((tcp.key, tcp.shared), ("listen.0", False))
            self.assertEqual((unix.key, unix.shared), ("listen.1", True))
            self.assertEqual(sockets[tcp.descriptor], descriptor)
            self.assertEqual(sockets[unix.descriptor], 30)

    def test_pipes(self) -> None:
        _, _, sockets = self.spawn(1)
        self.assertEqual([sockets[number] for number in (1, 2, 3, 4)], ["r", "r", "w", "r"])

    def test_brief(self) -> None:
        _, brief, _ = self.spawn(2)
        self.assertEqual(brief.number, 2)
        self.assertEqual(brief.terms.settings.limits.connections, 5000)
        self.assertEqual(brief.terms.keys.ids(), self.terms.keys.ids())
        self.assertEqual(brief.reactor, "wow.test.test_workers_spawn")

    def test_no_secret_is_in_its_arguments_or_environment(self) -> None:
        self.spawn(1)
        _, _, arguments, environ, _ = self.reactor.spawned[0]
        self.assertEqual(list(arguments[1:]), ["-P", "-m", "wow.workers"])
        self.assertEqual(set(environ), {"HOME", "PYTHONPATH"})

    def test_its_metrics_are_kept_when_it_is_gone(self) -> None:
        worker, _, _ = self.spawn(1)
        metrics = Metrics()
        metrics.requests.count = 3
        families = read(metrics.registry, metrics.over)
        worker._reported(worker, Report(0, True, {}, families))
        worker._ended(worker, DIED)
        self.assertEqual(self.ended, [(worker, DIED)])
        (requests,) = [m for m in self.aggregate.collect() if m.name == "wow_requests"]
        self.assertIn(3, [sample.value for sample in requests.samples])
