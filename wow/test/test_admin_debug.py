"""The pages below /debug/, over HTTP without a port."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wow.admin.channel import Channel
from wow.admin.debug import Debug
from wow.admin.health import Health
from wow.admin.lock import Lock
from wow.admin.site import make_site
from wow.config import Admin
from wow.debug.query import FORMATS, PAGES, Answer, Query, plain
from wow.metrics import Metrics
from wow.test.test_admin import HERE, parse


class DebugTestCase(SynchronousTestCase):
    """
    @ivar looks: what was asked of this process, and of workers by their numbers.
    """

    workers = 0

    def setUp(self) -> None:
        self.looks: list[tuple[int, Query, Deferred[Answer]]] = []
        debug = Debug(lambda query: self.look(0, query), self.workers, self.look_at_worker)
        lock = Lock(Admin(), {})
        self.site = make_site(Metrics().registry, Health({}), lock, Clock(), debug)

    def look(self, worker: int, query: Query) -> Deferred[Answer]:
        self.looks.append((worker, query, Deferred()))
        return self.looks[-1][2]

    def look_at_worker(self, worker: int, query: Query) -> Deferred[Answer] | None:
        return self.look(worker, query) if worker <= self.workers else None

    def ask(self, path: str, *headers: str, method: str = "GET") -> tuple[Channel, StringTransport]:
        channel: Any = self.site.buildProtocol(HERE)
        channel.callLater = Clock().callLater
        transport = StringTransport(HERE)
        channel.makeConnection(transport)
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        channel.dataReceived("\r\n".join([*lines, "", ""]).encode())
        return channel, transport

    def get(self, path: str, *headers: str) -> tuple[int, str]:
        status, _, body = parse(self.ask(path, *headers)[1].value())
        return status, body


class Pages(DebugTestCase):
    def test_list(self) -> None:
        status, page = self.get("/debug/")
        self.assertEqual(status, 200)
        for name in (*PAGES, *FORMATS, "this process"):
            self.assertIn(name, page)
        self.assertNotIn("worker=", page)
        self.assertEqual(self.looks, [])

    def test_list_without_its_slash(self) -> None:
        _, transport = self.ask("/debug")
        self.assertIn(b"302 Found", transport.value())
        self.assertIn(b"Location: debug/\r\n", transport.value())

    def test_answer(self) -> None:
        for page in PAGES:
            _, transport = self.ask(f"/debug/{page}")
            self.assertEqual(transport.value(), b"")
            worker, query, looked = self.looks.pop()
            self.assertEqual((worker, query), (0, Query(page)))
            looked.callback(Answer(200, "text/x-test", b"seen"))
            self.assertEqual(parse(transport.value()), (200, "text/x-test", "seen"))

    def test_arguments(self) -> None:
        self.ask("/debug/profile?seconds=3&format=pprof")
        self.assertEqual(self.looks[0][1], Query("profile", 3, "pprof"))

    def test_bad_arguments(self) -> None:
        for path in ("profile?seconds=61", "profile?format=svg", "heap?x=1", "gc?worker=0"):
            status, said = self.get(f"/debug/{path}")
            self.assertEqual(status, 400, path)
            self.assertTrue(said.endswith("\n") and len(said) > 10)
        self.assertEqual(self.looks, [])

    def test_busy(self) -> None:
        _, transport = self.ask("/debug/heap")
        self.looks[0][2].callback(plain("Not now", 409))
        self.assertEqual(parse(transport.value())[0], 409)

    def test_name_of_a_file_to_keep(self) -> None:
        for form, name in (("pprof", b'"wow.pb.gz"'), ("speedscope", b'"wow.speedscope.json"')):
            for status in (200, 409):
                _, transport = self.ask(f"/debug/profile?format={form}")
                self.looks.pop()[2].callback(Answer(status, "x/y", b""))
                self.assertEqual(name in transport.value(), status == 200)

    def test_whoever_leaves_is_not_waited_for(self) -> None:
        channel, transport = self.ask("/debug/profile")
        channel.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.looks[0][2].called)
        self.assertEqual(transport.value(), b"")

    def test_failure_is_an_error(self) -> None:
        _, transport = self.ask("/debug/profile")
        self.looks[0][2].errback(ZeroDivisionError())
        self.assertEqual(parse(transport.value())[0], 500)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_nothing_is_begun_for_its_head_alone(self) -> None:
        for page in PAGES:
            _, transport = self.ask(f"/debug/{page}", method="HEAD")
            self.assertIn(b" 405 ", transport.value())
        self.assertEqual(self.looks, [])

    def test_not_for_a_page_from_elsewhere(self) -> None:
        """Which could have a browser ask that is on this machine, or has a certificate."""
        for page in PAGES:
            for site in ("cross-site", "same-site"):
                self.assertEqual(self.get(f"/debug/{page}", f"Sec-Fetch-Site: {site}")[0], 403)
        self.assertEqual(self.looks, [])
        self.ask("/debug/gc", "Sec-Fetch-Site: same-origin")
        self.ask("/debug/gc", "Sec-Fetch-Site: none")
        self.assertEqual(len(self.looks), 2)

    def test_no_other_page(self) -> None:
        for path in ("/debug/x", "/debug/gc/", "/debug/gc/x"):
            self.assertEqual(self.get(path)[0], 404)
        self.assertEqual(self.looks, [])

    def test_no_worker(self) -> None:
        status, said = self.get("/debug/gc?worker=1")
        self.assertEqual((status, said), (404, "There is no worker 1 just now.\n"))


class Workers(DebugTestCase):
    workers = 2

    def test_list(self) -> None:
        page = self.get("/debug/")[1]
        for link in ("the parent", 'href="heap?&amp;worker=1"', "format=html&amp;worker=2"):
            self.assertIn(link, page)
        self.assertNotIn("worker=3", page)

    def test_one_is_chosen(self) -> None:
        for number in (1, 2):
            self.ask(f"/debug/gc?worker={number}")
            self.assertEqual(self.looks.pop()[0], number)
        self.assertEqual(self.get("/debug/gc?worker=3")[0], 404)
