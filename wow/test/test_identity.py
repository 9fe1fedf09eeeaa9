"""Certificates change while the server runs: all of them at once, or none."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from wow.certificate import BadCertificate
from wow.endpoint import TlsFiles
from wow.identity import Identities, Identity
from wow.logs import make_logger
from wow.metrics import Metrics
from wow.test.certificates import issue

NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
EXPIRY = "wow_certificate_expiry_timestamp_seconds"


class Shown(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics, self.logged = Metrics(), io.StringIO()
        log = make_logger(self.logged, "info", "json")
        self.identities = Identities(lambda: NOON, self.metrics.certificate_expiry, log)

    def issue(self, hours: int) -> TlsFiles:
        """Files with a certificate that is good for so many hours more."""
        path = Path(self.mktemp())
        self.write(path, hours)
        return TlsFiles(path, path)

    def write(self, path: Path, hours: int) -> None:
        issued = issue(begins=NOON - 9 * HOUR, ends=NOON + hours * HOUR)
        path.write_bytes(issued.private + issued.public)
        path.chmod(0o600)

    def hours(self, identity: Identity) -> float:
        return (identity.certificate.expires - NOON) / HOUR

    def expiry(self, endpoint: str) -> float | None:
        return self.metrics.registry.get_sample_value(EXPIRY, {"endpoint": endpoint})

    def events(self) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in self.logged.getvalue().splitlines()]
        self.logged.truncate(self.logged.seek(0))
        return events


class Starting(Shown):
    def test_metric_and_log_say_when_it_expires(self) -> None:
        self.identities.add("listen.0", self.issue(5))
        self.assertEqual(self.expiry("listen.0"), (NOON + 5 * HOUR).timestamp())
        (event,) = self.events()
        self.assertEqual(
            (event["event"], event["endpoint"], event["expires"]),
            ("certificate", "listen.0", "2031-05-17T17:00:00+00:00"),
        )

    def test_expired_is_a_warning(self) -> None:
        self.identities.add("listen.0", self.issue(-1))
        warning = self.events()[1]
        self.assertEqual(
            (warning["event"], warning["level"], warning["endpoint"], warning["reason"]),
            (
                "certificate_not_valid",
                "warning",
                "listen.0",
                "it expired on 2031-05-17 at 11:00:00 UTC",
            ),
        )

    def test_what_cannot_be_used_is_named(self) -> None:
        files = TlsFiles(Path("/nonexistent"), Path("/nonexistent"))
        bad = self.assertRaises(BadCertificate, self.identities.add, "listen.3", files)
        self.assertIn("listen.3: /nonexistent cannot be read", str(bad))


class Changing(Shown):
    def setUp(self) -> None:
        super().setUp()
        self.files = {"listen.0": self.issue(1), "listen.1": self.issue(2)}
        self.first, self.second = (
            self.identities.add(endpoint, files) for endpoint, files in self.files.items()
        )
        self.events()

    def both(self) -> tuple[float, float]:
        return self.hours(self.first), self.hours(self.second)

    def test_only_when_put_in_force(self) -> None:
        self.write(self.files["listen.0"].key, 7)
        put_in_force = self.identities.read_again(self.files)
        self.assertEqual((self.both(), self.events()), ((1, 2), []))
        put_in_force()
        self.assertEqual(self.both(), (7, 2))
        self.assertEqual(self.expiry("listen.0"), (NOON + 7 * HOUR).timestamp())
        self.assertEqual({event["event"] for event in self.events()}, {"certificate"})

    def test_one_that_is_bad_keeps_all_as_they_are(self) -> None:
        self.write(self.files["listen.0"].key, 7)
        self.files["listen.1"].key.write_bytes(b"junk")
        bad = self.assertRaises(BadCertificate, self.identities.read_again, self.files)
        self.assertIn("listen.1: ", str(bad))
        self.assertEqual((self.both(), self.events()), ((1, 2), []))

    def test_not_where_the_endpoint_is_another_by_now(self) -> None:
        """That needs a restart, and what it had may be gone."""
        for path in {files.key for files in self.files.values()}:
            path.unlink()
        elsewhere = {"listen.0": self.issue(7), "listen.2": self.issue(8)}
        self.identities.read_again(elsewhere)()
        self.assertEqual(self.both(), (1, 2))
