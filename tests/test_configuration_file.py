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
        for section in ("proxy", "admin", "pow", "limits", "log", "tracing"):
            for key in yaml.safe_load(SHIPPED.read_text())[section]:
                self.assertIn(key, described)


class Page(SynchronousTestCase):
    """docs/configuration.md has every key with its default."""

    def test_has_every_key_with_its_default(self) -> None:
        page = (SHIPPED.parent.parent / "docs" / "configuration.md").read_text()
        for section, keys in yaml.safe_load(SHIPPED.read_text()).items():
            for key, default in keys.items() if isinstance(keys, dict) else [("", keys)]:
                name = f"{section}.{key}" if key else section
                (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
                shown = row.split("|")[2].strip().strip("`")
                if name != "quotes.sources":
                    self.assertEqual(yaml.safe_load(shown), default, name)
