"""The configuration file that the project ships says what is in force without it, key by key."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import yaml
from twisted.trial.unittest import SynchronousTestCase

from wow import config

SHIPPED = Path(__file__).parent.parent / "etc" / "wow.yaml"


class ShippedFile(SynchronousTestCase):
    def test_says_the_defaults(self) -> None:
        self.assertEqual(
            config.dump(config.load(str(SHIPPED), {})), config.dump(config.load(None, {}))
        )

    def test_has_every_key(self) -> None:
        shipped = yaml.safe_load(SHIPPED.read_text())
        default = yaml.safe_load(config.dump(config.load(None, {})))
        self.assertEqual(shipped, default)

    def test_says_what_each_key_means(self) -> None:
        lines = SHIPPED.read_text().splitlines()
        described = {
            line.strip().split(":")[0]
            for before, line in pairwise(lines)
            if before.strip().startswith("#")
        }
        for section in ("pow", "limits", "log"):
            for key in yaml.safe_load(SHIPPED.read_text())[section]:
                self.assertIn(key, described)
