"""
What is in the image that C{.ci/containers} has built, run as an engine would: as
process 1 of namespaces of its own, as the image's user, without a capability,
its root file system read-only.

Not among C{trial tests}, as it needs root and the two minutes of the building.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.running import PATIENCE, wait_until

ROOT = Path(os.environ["IMAGE_ROOT"])
IMAGE: dict[str, Any] = json.loads(Path(os.environ["IMAGE"]).read_text())["Docker"]["config"]

BOX = """
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount --bind "$CONFIGURATION" "$ROOT/etc/wow"
mount -o remount,ro,bind "$ROOT/etc/wow"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs -o mode=0700,uid="$USER_ID",gid="$GROUP_ID" volume "$ROOT$WORKDIR"
mount -o remount,ro,bind "$ROOT"
ip link set lo up
exec chroot "$ROOT" "$@"
"""
"""What an engine does before it runs a container's first process."""

UNSHARE = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork"]


def confined(words: list[str]) -> list[str]:
    """A command of the image's, as its user in its working directory, with no way to more."""
    user, group = IMAGE["User"].split(":")
    return [
        *("setpriv", "--reuid", user, "--regid", group, "--clear-groups"),
        *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
        *("env", "--ignore-environment", f"--chdir={IMAGE['WorkingDir']}", *IMAGE["Env"]),
        *words,
    ]


class Container:
    """The image, run."""

    def __init__(self, directory: Path, configuration: Path, *arguments: str) -> None:
        """
        @param directory: where its log is kept.
        @param configuration: what is mounted at C{/etc/wow}.
        @param arguments: in the place of the image's own.
        """
        user, group = IMAGE["User"].split(":")
        words = confined([*IMAGE["Entrypoint"], *(arguments or IMAGE["Cmd"])])
        mounts = {"ROOT": str(ROOT), "CONFIGURATION": str(configuration.absolute())}
        box = {**mounts, "USER_ID": user, "GROUP_ID": group, "WORKDIR": IMAGE["WorkingDir"]}
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self._engine = subprocess.Popen(
                [*UNSHARE, "sh", "-ec", BOX, "box", *words],
                env={**os.environ, **box},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def until_logged(self, event: str) -> None:
        wait_until(lambda: f'"event": "{event}"' in self.log or self._engine.poll() is not None)
        assert f'"event": "{event}"' in self.log, self.log

    @property
    def _first(self) -> int:
        """The first process of the container, by its number outside."""
        engine = self._engine.pid
        return int(Path(f"/proc/{engine}/task/{engine}/children").read_text().split()[0])

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, to its end."""
        enter = ["nsenter", "--target", str(self._first), "--all", "--root", "--wd=/"]
        return subprocess.run(
            [*enter, *confined(list(words))],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def signal(self, number: int) -> None:
        os.kill(self._first, number)

    def wait(self) -> int:
        return self._engine.wait(PATIENCE)

    def kill(self) -> None:
        # By its first process: who changes its user, as this one did, is no
        # longer ended with its parent.
        if self._engine.poll() is None:
            self.signal(signal.SIGKILL)
        self._engine.wait(PATIENCE)


class Built(SynchronousTestCase):
    """What is in it, and what is not."""

    def test_no_compiler(self) -> None:
        folders = os.pathsep.join(str(ROOT / each) for each in ("usr/bin", "usr/local/bin", "bin"))
        for name in ("cc", "gcc", "g++", "clang", "tcc", "ld", "as", "make", "go", "rustc"):
            self.assertIsNone(shutil.which(name, path=folders), name)

    def test_nothing_of_the_building(self) -> None:
        for path in ("src", "wheels", "etc/pip.conf", "root/.cache", "opt/wow/bin/pip"):
            self.assertFalse((ROOT / path).exists(), path)

    def test_its_user_can_change_nothing_but_the_volume(self) -> None:
        user, group = (int(number) for number in IMAGE["User"].split(":"))
        places = ROOT / "opt/wow", ROOT / "etc/wow", ROOT / IMAGE["WorkingDir"].lstrip("/")
        found = [path for place in places for path in (place, *place.rglob("*"))]
        writable = [
            path
            for path in found
            if not path.is_symlink()
            and (
                path.stat().st_mode & 0o002
                or path.stat().st_uid == user
                or (path.stat().st_gid == group and path.stat().st_mode & 0o020)
            )
        ]
        self.assertEqual(writable, [places[-1]])
        self.assertEqual(list(IMAGE["Volumes"]), [IMAGE["WorkingDir"]])

    def test_not_root(self) -> None:
        self.assertNotIn("0", IMAGE["User"].split(":"))

    def test_says_what_it_is(self) -> None:
        labels = IMAGE["Labels"]
        self.assertEqual(labels["org.opencontainers.image.version"], "1.2.3")
        self.assertEqual(len(labels["org.opencontainers.image.revision"]), 40)


class Run(SynchronousTestCase):
    """It serves, and heeds its signals."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.configuration = self.directory / "etc"
        shutil.copytree(ROOT / "etc/wow", self.configuration)

    def start(self, *arguments: str) -> Container:
        container = Container(self.directory, self.configuration, *arguments)
        self.addCleanup(container.kill)
        container.until_logged("started")
        return container

    def test_serves_quotes(self) -> None:
        container = self.start()
        asked = container.run("wow", "quote", "--json")
        self.assertEqual((asked.returncode, asked.stderr), (0, ""))
        self.assertTrue(json.loads(asked.stdout)["text"])

    def test_nothing_to_complain_about(self) -> None:
        """The list of plugins is there and fresh; it would write to no other place."""
        container = self.start()
        log = container.log
        self.assertNotIn("plugin cache", log)
        self.assertNotIn("Traceback", log)
        # This user cannot, and need not, have the kernel drop anybody.
        warnings = {json.loads(line)["event"] for line in log.splitlines() if '"warning"' in line}
        self.assertLessEqual(warnings, {"random_key", "sieve_off", "few_descriptors"})

    def test_terminated(self) -> None:
        container = self.start()
        container.signal(signal.SIGTERM)
        self.assertEqual(container.wait(), 0)
        self.assertIn('"event": "stopped"', container.log)

    def test_reloads(self) -> None:
        container = self.start()
        container.signal(signal.SIGHUP)
        container.until_logged("reloaded")

    def test_healthy(self) -> None:
        """By the image's own check."""
        kind, *check = IMAGE["Healthcheck"]["Test"]
        self.assertEqual(kind, "CMD")
        container = self.start()
        asked = container.run(*check)
        self.assertEqual((asked.returncode, asked.stdout), (0, "live\n"))
        container.signal(signal.SIGSTOP)
        self.assertEqual(container.run(*check, "--timeout=0.2").returncode, 5)
        container.signal(signal.SIGCONT)

    def test_key_lent_to_its_group(self) -> None:
        """As Kubernetes hands out secrets: root's, and readable for the group."""
        key = self.configuration / "wow.key"
        key.write_bytes(b"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
        key.chmod(0o440)
        os.chown(key, 0, int(IMAGE["User"].split(":")[1]))
        (self.configuration / "wow.yaml").write_text("keys:\n  file: /etc/wow/wow.key\n")
        container = self.start()
        self.assertIn('"event": "keys"', container.log)
        self.assertNotIn("random_key", container.log)
