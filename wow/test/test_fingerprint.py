"""Servers that treat clients alike have the same fingerprint, and others do not."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wow import config
from wow.fingerprint import fingerprint


class Fingerprints(SynchronousTestCase):
    def of(self, text: str = "", **environ: str) -> str:
        path = Path(self.mktemp())
        path.write_text(text)
        return fingerprint(config.load(str(path), environ))

    def test_is_short(self) -> None:
        self.assertRegex(self.of(), "^[0-9a-f]{8}$")

    def test_is_the_same_for_the_same(self) -> None:
        self.assertEqual(self.of(), self.of())
        self.assertEqual(self.of("pow: {effort: 1000}"), self.of(WOW_POW__EFFORT="1000"))

    def test_differs_by_what_clients_notice(self) -> None:
        changes = ("pow: {effort: 1000}", "limits: {deny: [192.0.2.0/24]}", "quotes: {pool: 7}")
        self.assertEqual(len({self.of(), *map(self.of, changes)}), 4)

    def test_is_blind_to_what_is_a_machines_own(self) -> None:
        own = "listen: ['tcp:7']\nadmin: {listen: 'unix:/8'}\nlog: {level: debug}"
        self.assertEqual(self.of(own), self.of())

    def test_is_not_made_of_secrets(self) -> None:
        """Nobody can try which secret gives the fingerprint that he saw."""
        source = (
            "quotes: {{sources: [{{type: http, name: api, url: 'http://api.test/', text: q, "
            "author: a, headers: {{X-Key: '{}'}}}}]}}"
        )
        self.assertEqual(self.of(source.format("hunter2")), self.of(source.format("hunter3")))
