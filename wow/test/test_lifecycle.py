"""Parts start in order, stop the other way round, and a server that cannot listen ends."""

from __future__ import annotations

import io
import json
from typing import Any
from unittest import mock

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from wow.endpoint import parse
from wow.lifecycle import CannotStart, Listener, Ordered
from wow.logs import make_logger
from wow.pow.spent import CannotOpen


class Part(Service):
    """Writes down what happens to it, and stops when told."""

    def __init__(self, name: str, events: list[str]) -> None:
        self.name = name
        self.events = events
        self.stopped: Deferred[None] = Deferred()

    def startService(self) -> None:
        self.events.append(f"start {self.name}")

    def stopService(self) -> Deferred[None]:
        self.events.append(f"stop {self.name}")
        return self.stopped


class Logged(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = io.StringIO()
        self.log = make_logger(self.file, "info", "json")

    def logged(self, event: str) -> dict[str, Any]:
        lines = [json.loads(line) for line in self.file.getvalue().splitlines()]
        (found,) = [line for line in lines if line["event"] == event]
        return dict(found)


class Order(Logged):
    def setUp(self) -> None:
        super().setUp()
        self.events: list[str] = []
        self.server = Ordered(self.log)
        self.parts = [Part(name, self.events) for name in ("site", "store", "gate")]
        for part in self.parts:
            part.setServiceParent(self.server)

    def test_started_in_order(self) -> None:
        self.server.startService()
        self.assertEqual(self.events, ["start site", "start store", "start gate"])

    def test_stopped_one_after_the_other_last_first(self) -> None:
        self.server.startService()
        self.events.clear()
        stopped = self.server.stopService()
        self.assertEqual(self.events, ["stop gate"])
        self.parts[2].stopped.callback(None)
        self.assertEqual(self.events, ["stop gate", "stop store"])
        self.parts[1].stopped.callback(None)
        self.assertEqual(self.events, ["stop gate", "stop store", "stop site"])
        self.assertNoResult(stopped)
        self.parts[0].stopped.callback(None)
        self.successResultOf(stopped)

    def test_one_that_cannot_stop_does_not_hold_up_the_others(self) -> None:
        self.server.startService()
        self.parts[2].stopped = fail(ZeroDivisionError())
        self.server.stopService()
        self.assertEqual(self.events[-1], "stop store")
        self.assertIn("ZeroDivisionError", self.logged("stop_failed")["exception"])

    def test_store_that_cannot_be_opened_ends_the_start(self) -> None:
        with mock.patch.object(self.parts[1], "startService", side_effect=CannotOpen("why not")):
            self.assertRaises(CannotStart, self.server.startService)
        self.assertEqual(self.logged("cannot_start")["reason"], "why not")


class Listening(Logged):
    def setUp(self) -> None:
        super().setUp()
        self.reactor = MemoryReactor()
        endpoint = parse("haproxy:tcp:7777")
        self.listener = Listener(self.reactor, endpoint, Factory(), self.log)

    def refuse(self, outcome: Deferred[Any]) -> None:
        endpoint = mock.Mock()
        endpoint.listen.return_value = outcome
        with mock.patch("wow.lifecycle.listener", return_value=endpoint):
            self.listener.privilegedStartService()

    def test_before_privileges_are_shed(self) -> None:
        self.listener.privilegedStartService()
        self.assertEqual([server[0] for server in self.reactor.tcpServers], [7777])
        self.assertEqual(self.logged("listening")["endpoint"], "haproxy:tcp:7777")

    def test_stops_listening(self) -> None:
        self.listener.privilegedStartService()
        self.successResultOf(self.listener.stopService())

    def test_address_in_use_ends_the_start(self) -> None:
        in_use = CannotListenError("any", 7777, OSError(98, "Address already in use"))
        self.assertRaises(CannotStart, self.refuse, fail(in_use))
        self.assertIn("in use", self.logged("cannot_listen")["reason"])

    def test_socket_that_systemd_does_not_hand_over_ends_the_start(self) -> None:
        endpoint = parse("systemd:domain=INET:name=wow")
        listener = Listener(self.reactor, endpoint, Factory(), self.log)
        self.assertRaises(CannotStart, listener.privilegedStartService)
        self.assertIn("no such socket", self.logged("cannot_listen")["reason"])

    def test_failure_that_comes_late_stops_the_server(self) -> None:
        outcome: Deferred[Any] = Deferred()
        self.refuse(outcome)
        self.reactor.running = True
        outcome.errback(CannotListenError("any", 7777, OSError(98, "Address already in use")))
        self.assertTrue(self.reactor.hasStopped)
