"""A worker does what its parent says, and nothing without a parent."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from wow.assembly.server import Server
from wow.certificate import BadCertificate
from wow.config import Settings, load
from wow.debug.query import Answer, Query, plain
from wow.doors import Door, Doors, Entrances
from wow.entrance import Entrance
from wow.lifecycle import Ordered
from wow.logs import make_logger
from wow.metrics import Metrics
from wow.workers.control import (
    Ask,
    Drain,
    Hurry,
    Look,
    LookAway,
    PutInForce,
    Ready,
    Report,
    Seen,
    Serve,
    Word,
    pack,
)
from wow.workers.duty import Duty


class Parts:
    """
    What a worker is made of.

    @ivar happened: what was done, in order.
    """

    relieved = False
    bad_certificate = False

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.metrics = Metrics()
        self.drain = self.health = self.debugger = self
        self.looked: list[Deferred[Answer]] = []
        self.in_force: list[Settings] = []
        self.drained: Deferred[None] = Deferred()

    def report(self) -> tuple[bool, dict[str, Any]]:
        return False, {"reasons": {"spent": "full"}}

    def answer(self, query: Query) -> Deferred[Answer]:
        self.looked.append(Deferred())
        return self.looked[-1]

    def prepare(self, settings: Settings) -> Callable[[], None]:
        if self.bad_certificate:
            raise BadCertificate("cert.pem cannot be read")
        return lambda: self.in_force.append(settings)

    def hurry(self) -> None:
        self.happened.append("hurry")

    def open(self) -> None:
        self.happened.append("open")

    def close(self) -> None:
        self.happened.append("close")

    def note(self, what: str) -> Callable[[], None]:
        return lambda: self.happened.append(what)


class Draining(Service):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def stopService(self) -> Deferred[None]:
        self._parts.happened.append(f"drain, relieved: {self._parts.relieved}")
        return self._parts.drained


class OnDuty(SynchronousTestCase):
    def setUp(self) -> None:
        self.parts = Parts()
        self.said: list[Word] = []
        self.logged = io.StringIO()
        log = make_logger(self.logged, "info", "json")
        whole = Ordered(log)
        Draining(self.parts).setServiceParent(whole)
        whole.startService()
        doors = Doors({"listen.0": Door(())})
        entrances = Entrances(doors, lambda key, door: cast(Entrance, self.parts))
        self.duty = Duty(
            cast(Server, self.parts),
            whole,
            entrances,
            self.said.append,
            self.parts.note("hang up"),
            self.parts.note("stop"),
            log,
        )

    def drained(self) -> None:
        self.parts.drained.callback(None)


class Orders(OnDuty):
    def test_begins(self) -> None:
        self.duty.begin()
        self.assertEqual((self.said, self.parts.happened), ([Ready()], []))

    def test_serve(self) -> None:
        self.duty.heed(Serve())
        self.assertEqual(self.parts.happened, ["open"])

    def test_ask(self) -> None:
        self.duty.heed(Ask(7, metrics=False))
        self.assertEqual(self.said, [Report(7, False, {"reasons": {"spent": "full"}}, None)])

    def test_ask_for_metrics(self) -> None:
        self.parts.metrics.requests.count = 3
        self.duty.heed(Ask(7, metrics=True))
        (report,) = self.said
        assert isinstance(report, Report)
        (requests,) = [each for each in report.metrics or [] if each.name == "wow_requests"]
        self.assertIn(3, [sample.value for sample in requests.samples])

    def test_ask_what_cannot_be_told(self) -> None:
        self.parts.metrics.clients.set_function(lambda: 1 / 0)
        self.duty.heed(Ask(7, metrics=True))
        (report,) = self.said
        assert isinstance(report, Report)
        self.assertEqual((report.answers, report.ready, report.metrics), (7, False, None))
        self.assertIn("ZeroDivisionError", self.logged.getvalue())

    def test_put_in_force(self) -> None:
        settings = load(None, {"WOW_LIMITS__DENY": '["192.0.2.0/24"]'})
        self.duty.heed(PutInForce(pack(settings)))
        self.assertEqual(self.parts.in_force, [settings])

    def test_put_in_force_what_cannot_be(self) -> None:
        self.parts.bad_certificate = True
        self.duty.heed(PutInForce(pack(load(None, {}))))
        self.assertEqual(self.parts.in_force, [])
        self.assertIn("cert.pem cannot be read", self.logged.getvalue())


class Looking(OnDuty):
    query = Query("profile")

    def test_tells_what_it_sees(self) -> None:
        for number in (7, 8):
            self.duty.heed(Look(number, self.query))
        self.parts.looked[1].callback(plain("seen"))
        self.assertEqual(self.said, [Seen(8, plain("seen"))])

    def test_looks_away(self) -> None:
        self.duty.heed(Look(7, self.query))
        self.duty.heed(LookAway(7))
        self.duty.heed(LookAway(7))
        self.assertEqual(self.said, [])
        self.assertNotIn("debug_failed", self.logged.getvalue())
        self.assertTrue(self.parts.looked[0].called)

    def test_looks_away_too_late(self) -> None:
        self.duty.heed(Look(7, self.query))
        self.parts.looked[0].callback(plain("seen"))
        self.duty.heed(LookAway(7))
        self.assertEqual(self.said, [Seen(7, plain("seen"))])

    def test_cannot_see(self) -> None:
        self.duty.heed(Look(7, self.query))
        self.parts.looked[0].errback(ZeroDivisionError())
        (seen,) = self.said
        assert isinstance(seen, Seen)
        self.assertEqual(seen.answer.status, 500)
        self.assertIn("ZeroDivisionError", self.logged.getvalue())


class TheEnd(OnDuty):
    def test_lets_nobody_in_finishes_tells_and_hangs_up(self) -> None:
        self.duty.heed(Serve())
        self.duty.heed(Drain(relieved=True))
        self.assertEqual(self.parts.happened, ["open", "close", "drain, relieved: True"])
        self.assertEqual(self.said, [])
        self.drained()
        (last,) = self.said
        assert isinstance(last, Report)
        self.assertIsNotNone(last.metrics)
        self.assertEqual(self.parts.happened[3:], ["hang up"])
        self.duty.orphaned("closed")
        self.assertEqual(self.parts.happened[3:], ["hang up", "stop"])

    def test_unrelieved(self) -> None:
        self.duty.heed(Drain(relieved=False))
        self.assertEqual(self.parts.happened, ["drain, relieved: False"])

    def test_begins_once(self) -> None:
        for _ in range(2):
            self.duty.heed(Drain(relieved=False))
        self.duty.heed(Serve())
        self.assertEqual(self.parts.happened, ["drain, relieved: False"])

    def test_answers_meanwhile(self) -> None:
        self.duty.heed(Drain(relieved=False))
        self.duty.heed(Ask(7, metrics=False))
        self.assertEqual(len(self.said), 1)

    def test_may_be_hurried(self) -> None:
        self.duty.heed(Drain(relieved=False))
        self.duty.heed(Hurry())
        self.assertEqual(self.parts.happened[1:], ["hurry"])

    def test_of_the_parent_is_the_end(self) -> None:
        self.duty.heed(Serve())
        self.duty.orphaned("closed")
        self.assertEqual(self.parts.happened, ["open", "close", "drain, relieved: False"])
        self.drained()
        self.assertEqual((self.said, self.parts.happened[3:]), ([], ["stop"]))

    def test_of_the_parent_meanwhile(self) -> None:
        self.duty.heed(Drain(relieved=True))
        self.duty.orphaned("closed")
        self.drained()
        self.assertEqual(self.parts.happened[1:], ["stop"])
