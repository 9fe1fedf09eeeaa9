"""
What operators are given to watch a server with: rules, runbook and dashboard
speak of what there is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.running import PATIENCE, Running, Server, wait_until
from wow.test.certificates import issue

ROOT = Path(__file__).parent.parent
RULES = ROOT / "deploy" / "prometheus"
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "wow.json").read_text())

_TERM = re.compile(r"([a-zA-Z_][\w:]*)\s*(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_OURS = ("wow_", "process_", "python_")
_PROMETHEUS_OWN = {"job", "instance"}


def rules() -> list[dict[str, Any]]:
    """The rules of all files."""
    files = [
        yaml.safe_load((RULES / name).read_text()) for name in ("recording.yaml", "alerts.yaml")
    ]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def panel_expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def queries() -> list[str]:
    """What the dashboard asks for to offer a choice."""
    variables = DASHBOARD["templating"]["list"]
    return [each["query"]["query"] for each in variables if each["type"] == "query"]


def terms(expression: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """The metrics that an expression names, and what their labels are compared with."""
    for name, matchers in _TERM.findall(expression):
        if name.startswith(_OURS) or ":" in name:
            yield (
                name,
                {
                    label: [] if "$" in value else value.split("|")
                    for label, _, value in _MATCHER.findall(matchers)
                    if label not in _PROMETHEUS_OWN
                },
            )


def section(alert: str) -> str:
    """What the runbook has on an alert."""
    _, found, rest = RUNBOOK.partition(f"\n### {alert}\n")
    assert found, f"docs/operations.md has no section {alert}"
    return re.split(r"\n##+ ", rest)[0]


def commands(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


class Promtool(SynchronousTestCase):
    """Prometheus' own opinion."""

    def run_promtool(self, *arguments: str) -> None:
        promtool = shutil.which("promtool")
        if promtool is None:
            raise SkipTest("there is no promtool; Debian has it in the package prometheus")
        ran = subprocess.run(
            [promtool, *arguments], cwd=RULES, capture_output=True, text=True, timeout=5 * PATIENCE
        )
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)

    def test_configuration(self) -> None:
        self.run_promtool("check", "config", "prometheus.yaml")

    def test_configuration_for_kubernetes(self) -> None:
        """All but how it finds the pods, which Debian's Prometheus knows nothing of."""
        configuration = yaml.safe_load((RULES / "kubernetes.yaml").read_text())
        (job,) = configuration["scrape_configs"]
        (discovery,) = job.pop("kubernetes_sd_configs")
        self.assertEqual(discovery, {"role": "pod", "namespaces": {"names": ["wow"]}})
        configuration["rule_files"] = [str(RULES / each) for each in configuration["rule_files"]]
        known = Path(self.mktemp()).absolute()
        known.write_text(yaml.safe_dump(configuration))
        # Not that its token is there: that is in the pod of Prometheus.
        self.run_promtool("check", "config", "--syntax-only", str(known))

    def test_cases(self) -> None:
        self.run_promtool("test", "rules", *map(str, sorted(RULES.glob("tests/*.yaml"))))


class Alerts(SynchronousTestCase):
    def test_each_has_its_section(self) -> None:
        for alert in alerts():
            name = alert["alert"]
            self.assertEqual(
                alert["annotations"]["runbook_url"], f"docs/operations.md#{name.lower()}"
            )
            for heading in ("**Means.**", "**Look at.**", "**Do.**"):
                self.assertIn(heading, section(name), name)
            self.assertTrue(commands(section(name)), name)

    def test_each_section_has_its_alert(self) -> None:
        names = {alert["alert"] for alert in alerts()}
        self.assertEqual(set(re.findall(r"^### (Wow\w+)$", RUNBOOK, re.MULTILINE)), names)

    def test_links_lead_somewhere(self) -> None:
        headings = {name.lower() for name in re.findall(r"^##+ (\w+)$", RUNBOOK, re.MULTILINE)}
        for link in re.findall(r"\(#(\w+)\)", RUNBOOK):
            self.assertIn(link, headings)

    def test_each_says_how_urgent_it_is(self) -> None:
        for alert in alerts():
            self.assertIn(alert["labels"]["severity"], ("page", "ticket"), alert["alert"])

    def test_each_is_seen_to_fire_and_not_to(self) -> None:
        looks = [
            look
            for file in RULES.glob("tests/*.yaml")
            for case in yaml.safe_load(file.read_text())["tests"]
            for look in case["promql_expr_test"]
        ]
        quiet = [look for look in looks if not look["exp_samples"]]
        fired = {
            name
            for look in looks
            for sample in look["exp_samples"]
            for name in re.findall(r'alertname="(\w+)"', sample["labels"])
        }
        self.assertEqual(fired, {alert["alert"] for alert in alerts()})
        self.assertGreater(len(quiet), len(alerts()))


class Names(Running):
    """Rules and panels name metrics, labels and values of labels that a server has."""

    def start_with_everything(self) -> Server:
        path = Path(self.mktemp()).absolute()
        issued = issue()
        path.write_bytes(issued.private + issued.public)
        path.chmod(0o600)
        listen = [f"ssl:0:interface=127.0.0.1:privateKey={path}", "tcp:0:interface=127.0.0.1"]
        # Whose metrics are those of one process, and the parent's.
        server = self.start(None, WOW_LISTEN=json.dumps(listen), WOW_WORKERS="2")
        with server.connect() as client:
            self.assertEqual(client.quote()["type"], "quote")
        return server

    def labels_by_name(self, server: Server) -> dict[str, dict[str, set[str]]]:
        """The labels of each sample's name, and their values."""
        found: dict[str, dict[str, set[str]]] = {}
        for family in text_string_to_metric_families(server.page("/metrics")[1]):
            for sample in family.samples:
                labels = found.setdefault(sample.name, {})
                for label, value in sample.labels.items():
                    labels.setdefault(label, set()).add(value)
        for rule in rules():
            if "record" in rule:
                labels = found.setdefault(rule["record"], {})
                for label, value in rule.get("labels", {}).items():
                    labels.setdefault(label, set()).add(value)
        return found

    def test_are_there(self) -> None:
        there = self.labels_by_name(self.start_with_everything())
        expressions = [rule["expr"] for rule in rules()] + panel_expressions() + queries()
        checked = 0
        for expression in expressions:
            for name, labels in terms(expression):
                self.assertIn(name, there, expression)
                checked += 1
                for label, values in labels.items():
                    self.assertLessEqual(set(values), there[name].get(label, set()), expression)
        self.assertGreater(checked, 100)


def chapter(title: str) -> str:
    """A chapter of the runbook."""
    return RUNBOOK.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


class Commands(Running):
    """
    Every command of the runbook on changes, attacks and alerts, as it stands
    there but for ports and paths.
    """

    def test_work(self) -> None:
        server = self.start(WOW_WORKERS="2")
        wait_until(lambda: server.page("/health/ready")[0] == 200)
        configuration = ROOT / "etc" / "wow.yaml"
        wow = Path(sys.executable).parent / "wow"
        chapters = ("Change the configuration", "Under attack", "Alerts")
        for command in dict.fromkeys(commands("".join(map(chapter, chapters)))):
            here = (
                command.replace("127.0.0.1:7778", f"127.0.0.1:{server.admin[1]}")
                .replace("/etc/wow/wow.yaml", str(configuration))
                .replace("wow quote", f"{wow} quote tcp:127.0.0.1:{server.address[1]}")
                .replace("wow config", f"{wow} config")
                .replace("wow reload", f"{wow} reload 127.0.0.1:{server.admin[1]}")
            )
            ran = subprocess.run(
                ["bash", "-o", "pipefail", "-c", here],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            # What there is nothing of yet is not found; that is an answer.
            nothing = command.endswith("'^wow_certificate_expiry'") and ran.returncode == 1
            self.assertTrue(ran.returncode == 0 or nothing, f"{command}: {ran.stdout}{ran.stderr}")
