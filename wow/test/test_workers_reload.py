"""What changed decides: some of it goes to the workers, and for the rest there are new ones."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any, cast

from prometheus_client import CollectorRegistry
from twisted.trial.unittest import SynchronousTestCase

from wow.certificate import BadCertificate
from wow.config import Settings, load
from wow.logs import make_logger
from wow.outcomes import Outcomes
from wow.pow.keys import BadKey, KeyRing, generate
from wow.workers.control import Terms
from wow.workers.reload import WorkersReload
from wow.workers.supervisor import Supervisor

LISTS = {"WOW_LIMITS__DENY": '["192.0.2.0/24"]'}


class Workers:
    def __init__(self) -> None:
        self.in_force: list[Settings] = []
        self.terms: list[Terms] = []

    def put_in_force(self, settings: Settings) -> None:
        self.in_force.append(settings)

    def replace(self, terms: Terms) -> None:
        self.terms.append(terms)


class Reloading(SynchronousTestCase):
    def setUp(self) -> None:
        self.workers = Workers()
        self.keys = KeyRing([generate()])
        self.bad: BadKey | BadCertificate | None = None
        self.prepared: list[Settings] = []
        self.logged = io.StringIO()
        self.outcomes = Outcomes(CollectorRegistry(), lambda: 0.0)
        self.reload = WorkersReload(
            Terms(load(None, {}), self.keys),
            self.load,
            self.find_keys,
            self.prepare,
            cast(Supervisor, self.workers),
            self.outcomes,
            make_logger(self.logged, "info", "json"),
        )

    def load(self) -> Settings:
        return load(None, self.environ)

    def find_keys(self, settings: Settings) -> KeyRing:
        if isinstance(self.bad, BadKey):
            raise self.bad
        return self.keys

    def prepare(self, settings: Settings) -> Callable[[], None]:
        if isinstance(self.bad, BadCertificate):
            raise self.bad
        return lambda: self.prepared.append(settings)

    def reloaded(self, **environ: str) -> dict[str, dict[str, Any]]:
        """What is logged, by event."""
        self.environ = environ
        self.logged.truncate(self.logged.seek(0))
        self.reload()
        events = [json.loads(line) for line in self.logged.getvalue().splitlines()]
        return {event["event"]: event for event in events}

    def test_lists_alone_go_to_the_workers(self) -> None:
        events = self.reloaded(**LISTS)
        self.assertEqual(list(events), ["reloaded"])
        self.assertEqual([each.limits.deny for each in self.workers.in_force], [["192.0.2.0/24"]])
        self.assertEqual(self.workers.terms, [])

    def test_anything_else_takes_new_workers(self) -> None:
        self.reloaded(WOW_POW__EFFORT="4096", **LISTS)
        (terms,) = self.workers.terms
        self.assertEqual((terms.settings.pow.effort, terms.keys), (4096, self.keys))
        self.assertEqual(terms.settings.limits.deny, ["192.0.2.0/24"])
        self.assertEqual(self.workers.in_force, [])

    def test_nothing_takes_them_too(self) -> None:
        # Perhaps there are other keys in the file, or other quotes.
        self.reloaded()
        self.assertEqual(len(self.workers.terms), 1)

    def test_compared_with_what_is_in_force(self) -> None:
        self.reloaded(**LISTS)
        self.reloaded(**LISTS)
        self.assertEqual((len(self.workers.in_force), len(self.workers.terms)), (1, 1))
        self.reloaded()
        self.assertEqual((len(self.workers.in_force), len(self.workers.terms)), (2, 1))

    def test_until_new_workers_have_it_nothing_else_is_in_force(self) -> None:
        for _ in range(2):
            self.reloaded(WOW_POW__EFFORT="4096")
        self.reload.took_over(self.workers.terms[0])
        self.reloaded(WOW_POW__EFFORT="4096", **LISTS)
        self.assertEqual((len(self.workers.in_force), len(self.workers.terms)), (1, 2))

    def test_lists_and_keys(self) -> None:
        """Keys that came with other lists are not forgotten."""
        self.keys = KeyRing([generate()])
        self.reloaded(**LISTS)
        (terms,) = self.workers.terms
        self.assertEqual(terms.keys, self.keys)

    def test_outcome_is_told_when_it_is_known(self) -> None:
        self.reloaded(WOW_POW__EFFORT="4096", WOW_WORKERS="3")
        self.assertEqual(self.outcomes.report(), {"number": 0})
        self.reload.took_over(self.workers.terms[0])
        self.assertEqual(self.outcomes.report()["restart_needed"], ["workers"])
        self.reload.called_off("a new worker did not start: it died")
        self.assertEqual(self.outcomes.report()["outcome"], "refused")

    def test_what_the_parent_does_stays_and_is_named(self) -> None:
        fixed = {
            "WOW_LISTEN": '["tcp:7779"]',
            "WOW_WORKERS": "3",
            "WOW_ADMIN__LISTEN": "tcp:7780:interface=127.0.0.1",
            "WOW_LOG__FORMAT": "json",
        }
        events = self.reloaded(**fixed, WOW_LOG__LEVEL="debug")
        needed = events["restart_needed"]["changed"]
        self.assertEqual(needed.split(), ["admin.listen", "listen", "log.format", "workers"])
        (terms,) = self.workers.terms
        self.assertEqual(terms.settings.listen, ["tcp:7777"])
        self.assertEqual((terms.settings.log.format, terms.settings.log.level), ("auto", "debug"))

    def check_refused(self, events: dict[str, dict[str, Any]], reason: str) -> None:
        self.assertEqual(list(events), ["reload_refused"])
        self.assertIn(reason, events["reload_refused"]["reason"])
        self.assertEqual((self.workers.in_force, self.workers.terms), ([], []))
        self.assertEqual(self.prepared, [])
        told = self.outcomes.report()
        self.assertEqual((told["number"], told["outcome"]), (1, "refused"))
        self.assertIn(reason, told["reason"])

    def test_error_changes_nothing(self) -> None:
        self.check_refused(self.reloaded(WOW_POW__ROUNDS="0", **LISTS), "pow.rounds")

    def test_keys_that_cannot_be_used_change_nothing(self) -> None:
        self.bad = BadKey("key 1 of wow.key is not base64")
        self.check_refused(self.reloaded(), "not base64")

    def test_certificate_that_cannot_be_used_changes_nothing(self) -> None:
        self.bad = BadCertificate("admin.listen: cert.pem cannot be read")
        self.check_refused(self.reloaded(**LISTS), "cannot be read")

    def test_what_is_the_parents_own_is_put_in_force(self) -> None:
        self.reloaded(**LISTS)
        self.assertEqual([each.limits.deny for each in self.prepared], [["192.0.2.0/24"]])
