"""What can be put in force while the server runs is, and the rest is named."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from wow.certificate import BadCertificate
from wow.config import ConfigError, Settings, load
from wow.logs import make_logger
from wow.reload import Reload


def settings(**limits: str) -> Settings:
    """The defaults, with some limits that are others."""
    return load(None, {f"WOW_LIMITS__{key.upper()}": value for key, value in limits.items()})


class Reloading(SynchronousTestCase):
    bad: BadCertificate | None = None

    def setUp(self) -> None:
        self.logged = io.StringIO()
        self.in_force: list[Settings] = []
        log = make_logger(self.logged, "info", "json")
        self.reload = Reload(settings(), self.load, self.prepare, log)

    def load(self) -> Settings:
        if isinstance(self.now, ConfigError):
            raise self.now
        return self.now

    def prepare(self, now: Settings) -> Callable[[], None]:
        if self.bad is not None:
            raise self.bad
        return lambda: self.in_force.append(now)

    def reloaded(self, now: Settings | ConfigError) -> dict[str, dict[str, Any]]:
        """What is logged, by event, once these are the settings, or are of no use."""
        self.now = now
        self.logged.truncate(self.logged.seek(0))
        self.reload()
        events = [json.loads(line) for line in self.logged.getvalue().splitlines()]
        return {event["event"]: event for event in events}

    def test_new_settings_are_put_in_force(self) -> None:
        now = settings(deny='["192.0.2.0/24"]')
        self.reloaded(now)
        self.assertEqual(len(self.in_force), 1)
        self.assertIs(self.in_force[0], now)

    def test_lists_need_no_restart(self) -> None:
        now = settings(allow='["192.0.2.7"]', deny='["192.0.2.0/24", "2001:db8::/32"]')
        events = self.reloaded(now)
        self.assertEqual(list(events), ["reloaded"])
        self.assertEqual((events["reloaded"]["allow"], events["reloaded"]["deny"]), (1, 2))

    def test_what_needs_a_restart_is_named(self) -> None:
        events = self.reloaded(settings(idle="7", deny='["192.0.2.0/24"]', backlog="7"))
        self.assertEqual(list(events), ["reloaded", "restart_needed"])
        needed = events["restart_needed"]
        self.assertEqual(needed["level"], "warning")
        self.assertEqual(set(needed["changed"].split()), {"limits.idle", "limits.backlog"})

    def test_what_is_in_no_section_too(self) -> None:
        events = self.reloaded(load(None, {"WOW_LISTEN": '["tcp:7778"]', "WOW_POW__LOAD": "0.5"}))
        self.assertEqual(set(events["restart_needed"]["changed"].split()), {"listen", "pow.load"})

    def test_again_each_time_until_it_is_as_it_was_at_the_start(self) -> None:
        for _ in range(2):
            self.assertIn("restart_needed", self.reloaded(settings(idle="7")))
        self.assertNotIn("restart_needed", self.reloaded(settings()))

    def test_balancers_need_no_restart(self) -> None:
        now = load(None, {"WOW_PROXY__NETWORKS": '["192.0.2.0/24"]'})
        self.assertEqual(list(self.reloaded(now)), ["reloaded"])

    def test_certificate_that_cannot_be_used_changes_nothing(self) -> None:
        self.bad = BadCertificate("listen.0: key.pem cannot be read: Permission denied")
        events = self.reloaded(settings(deny='["192.0.2.0/24"]'))
        self.assertEqual(list(events), ["reload_refused"])
        self.assertEqual(events["reload_refused"]["reason"], str(self.bad))
        self.assertEqual(self.in_force, [])

    def test_error_changes_nothing(self) -> None:
        events = self.reloaded(ConfigError(["limits.idle: is missing", "x: unknown key"]))
        self.assertEqual(list(events), ["reload_refused"])
        refused = events["reload_refused"]
        self.assertEqual(refused["level"], "error")
        self.assertEqual(refused["reason"], "limits.idle: is missing; x: unknown key")
        self.assertEqual(self.in_force, [])
