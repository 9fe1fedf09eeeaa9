"""What can be put in force while the server runs is, and the rest is named."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.trial.unittest import SynchronousTestCase

from wow.certificate import BadCertificate
from wow.config import ConfigError, Settings, load
from wow.logs import make_logger
from wow.outcomes import Outcomes
from wow.pow.keys import BadKey
from wow.reload import LIVE, Reload, flat, together


def settings(**limits: str) -> Settings:
    """The defaults, with some limits that are others."""
    return load(None, {f"WOW_LIMITS__{key.upper()}": value for key, value in limits.items()})


class Reloading(SynchronousTestCase):
    bad: BadCertificate | BadKey | None = None
    time = 1000.0

    def setUp(self) -> None:
        self.logged = io.StringIO()
        self.in_force: list[Settings] = []
        log = make_logger(self.logged, "info", "json")
        self.registry = CollectorRegistry()
        self.outcomes = Outcomes(self.registry, lambda: self.time)
        self.reload = Reload(settings(), self.load, self.prepare, self.outcomes, log)

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
        self.assertEqual(self.in_force[0], now)

    def test_what_needs_a_restart_is_not(self) -> None:
        self.reloaded(load(None, {"WOW_POW__TTL": "7", "WOW_POW__EFFORT": "4096"}))
        (in_force,) = self.in_force
        self.assertEqual((in_force.pow.ttl, in_force.pow.effort), (60, 4096))

    def test_each_is_in_the_table_of_the_documentation(self) -> None:
        page = Path(__file__).parents[2] / "docs" / "configuration.md"
        section = page.read_text().partition("\n## Changing it while it runs\n")[2]
        rows = [
            line.split("|")[2:4]
            for line in section.partition("\n## ")[0].splitlines()
            if line.startswith("| ")
        ]
        live, fixed = (
            [key for row in rows for key in re.findall(r"`([a-z0-9_.]+)`", row[column])]
            for column in (0, 1)
        )
        self.assertEqual(sorted(live), sorted(LIVE))
        self.assertEqual(sorted(fixed), sorted(set(flat(settings())) - LIVE))

    def test_each_key_that_is_live_is_one(self) -> None:
        self.assertLessEqual(LIVE, set(flat(settings())))

    def test_keys_that_cannot_be_used_change_nothing(self) -> None:
        self.bad = BadKey("key 1 of wow.key is not base64")
        events = self.reloaded(settings())
        self.assertEqual(list(events), ["reload_refused"])
        self.assertEqual(self.in_force, [])

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def test_outcomes_are_counted_and_told(self) -> None:
        self.assertEqual(self.outcomes.report(), {"number": 0})
        self.time = 2000.0
        self.reloaded(settings(backlog="7"))
        self.assertEqual(self.outcomes.report(), {
            "number": 1,
            "outcome": "accepted",
            "at": "1970-01-01T00:33:20+00:00",
            "restart_needed": ["limits.backlog"],
        })  # fmt: skip
        self.time = 3000.0
        self.reloaded(ConfigError(["x: unknown key"]))
        told = self.outcomes.report()
        self.assertEqual((told["number"], told["reason"]), (2, "x: unknown key"))
        self.assertNotIn("restart_needed", told)
        self.assertEqual(self.sample("wow_reloads_total", outcome="accepted"), 1)
        self.assertEqual(self.sample("wow_reloads_total", outcome="refused"), 1)
        self.assertEqual(self.sample("wow_reload_successful"), 0)
        self.assertEqual(self.sample("wow_configuration_timestamp_seconds"), 2000.0)
        self.reloaded(settings())
        self.assertEqual(self.sample("wow_reload_successful"), 1)
        self.assertEqual(self.sample("wow_configuration_timestamp_seconds"), 3000.0)

    def test_lists_need_no_restart(self) -> None:
        now = settings(allow='["192.0.2.7"]', deny='["192.0.2.0/24", "2001:db8::/32"]')
        events = self.reloaded(now)
        self.assertEqual(list(events), ["reloaded"])
        self.assertEqual((events["reloaded"]["allow"], events["reloaded"]["deny"]), (1, 2))

    def test_what_needs_a_restart_is_named(self) -> None:
        events = self.reloaded(settings(drain="7", deny='["192.0.2.0/24"]', backlog="7"))
        self.assertEqual(list(events), ["reloaded", "restart_needed"])
        needed = events["restart_needed"]
        self.assertEqual(needed["level"], "warning")
        self.assertEqual(set(needed["changed"].split()), {"limits.drain", "limits.backlog"})

    def test_what_is_in_no_section_too(self) -> None:
        events = self.reloaded(load(None, {"WOW_LISTEN": '["tcp:7778"]', "WOW_POW__TTL": "50"}))
        self.assertEqual(set(events["restart_needed"]["changed"].split()), {"listen", "pow.ttl"})

    def test_again_each_time_until_it_is_as_it_was_at_the_start(self) -> None:
        for _ in range(2):
            self.assertIn("restart_needed", self.reloaded(settings(drain="7")))
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


class Together(SynchronousTestCase):
    def test_all_or_none(self) -> None:
        done: list[str] = []

        def prepare(name: str) -> Callable[[Settings], Callable[[], None]]:
            return lambda _: lambda: done.append(name)

        def refuse(_: Settings) -> Callable[[], None]:
            raise ConfigError(["admin.token: is missing"])

        self.assertRaises(ConfigError, together(prepare("a"), refuse), settings())
        put_in_force = together(prepare("a"), prepare("b"))(settings())
        self.assertEqual(done, [])
        put_in_force()
        self.assertEqual(done, ["a", "b"])
