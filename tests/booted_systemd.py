"""
The units of C{deploy/systemd}, installed as docs/operations.md says and run by
a real systemd, which C{.ci/containers} has put with the server into a root file
system: it is process 1 of namespaces of its own there.

Not among C{trial tests}, as it needs root and the minutes of the building.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.running import PATIENCE, wait_until

ROOT = Path(os.environ["MACHINE_ROOT"])
TOP = Path(__file__).parent.parent

CAP_NET_ADMIN = 12

BOOT = """
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
cd "$ROOT"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs run run
mount -t tmpfs tmp tmp
mount -t tmpfs -o mode=755 dev dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ip link set lo up
mkdir -p host
pivot_root . host
umount --lazy host
# As at a boot, where systemd would do it itself.
mount --make-rshared /
exec env --ignore-environment container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=multi-user.target
"""

UNSHARE = "unshare --mount --pid --net --ipc --uts --cgroup --fork"


def cgroups() -> Path:
    """Where this machine has its control groups, the newer kind."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise AssertionError("this machine has no cgroup2 file system")


class Machine:
    """The root file system, booted."""

    def __init__(self, console: Path) -> None:
        """
        @param console: what is said while it boots is kept here.
        """
        self.console = console
        self.group = cgroups() / f"wow-test-{os.getpid()}"
        self.group.mkdir(exist_ok=True)
        enter = f'echo $$ > {self.group}/cgroup.procs; exec {UNSHARE} sh -ec "$BOOT"'
        with console.open("wb") as file:
            self._engine = subprocess.Popen(
                ["sh", "-ec", enter],
                env={**os.environ, "ROOT": str(ROOT), "BOOT": BOOT},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._booted)

    def _booted(self) -> bool:
        assert self._engine.poll() is None, self.console.read_text()
        children = Path(f"/proc/{self._engine.pid}/task/{self._engine.pid}/children")
        self._first = children.read_text().strip()
        if not self._first or Path(f"/proc/{self._first}/comm").read_text() != "systemd\n":
            return False
        return self.run("systemctl", "is-system-running")[1] in ("running\n", "degraded\n")

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command in it as root, to its end: its status, and all that it said."""
        enter = ["nsenter", "--target", self._first, "--all", "--root", "--wd=/"]
        path = "PATH=/opt/wow/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        ended = subprocess.run(
            [*enter, "env", "--ignore-environment", path, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return ended.returncode, ended.stdout

    def halt(self) -> None:
        """Pull the plug."""
        os.kill(int(self._first), signal.SIGKILL)
        self._engine.wait(PATIENCE)
        wait_until(self._gone)

    def _gone(self) -> bool:
        groups = [place for place in self.group.rglob("*") if place.is_dir()]
        try:
            for group in (*sorted(groups, reverse=True), self.group):
                group.rmdir()
        except OSError:
            # Some of it is still ending.
            return False
        return True


def documented() -> list[str]:
    """The commands by which docs/operations.md installs it, but for those that build it."""
    page = (TOP / "docs/operations.md").read_text()
    section = page.partition("### On a machine with systemd\n")[2].partition("\n### ")[0]
    commands = re.findall(r"^    (.+)$", section, re.MULTILINE)
    return [each for each in commands if " -m venv " not in each and "pip install" not in each]


class Service(SynchronousTestCase):
    def setUp(self) -> None:
        """A machine on which it was never installed, with a copy of the sources."""
        units = ROOT / "etc/systemd/system"
        for left in ("etc/wow", "src", "var/lib/private/wow", "var/log/journal"):
            shutil.rmtree(ROOT / left, ignore_errors=True)
        for left in ("wow.service.d", "multi-user.target.wants", "sockets.target.wants"):
            shutil.rmtree(units / left, ignore_errors=True)
        for plugins in (ROOT / "opt/wow").rglob("dropin.cache"):
            plugins.unlink()
        shutil.copytree(TOP / "deploy", ROOT / "src/deploy")
        self.configuration = ROOT / "etc/wow/wow.yaml"
        self.drop_in = units / "wow.service.d/test.conf"

    def start(self) -> Machine:
        """Boot it, and install the server as the document says."""
        machine = Machine(Path(self.mktemp()))
        self.addCleanup(machine.halt)
        for command in documented():
            status, said = machine.run("sh", "-c", f"cd /src && {command}")
            self.assertEqual(status, 0, f"{command}: {said}{self.log(machine)}")
        return machine

    def log(self, machine: Machine) -> str:
        return machine.run("journalctl", "--no-pager", "--output=cat", "--unit=wow.service")[1]

    def show(self, machine: Machine, name: str) -> str:
        return machine.run("systemctl", "show", "--value", f"--property={name}", "wow.service")[
            1
        ].strip()

    def until_shown(self, machine: Machine, name: str, value: str) -> None:
        wait_until(lambda: self.show(machine, name) == value)

    def status(self, machine: Machine) -> dict[str, str]:
        """What the kernel says of the server's process."""
        process = self.show(machine, "MainPID")
        lines = machine.run("cat", f"/proc/{process}/status")[1].splitlines()
        return dict(line.split(":", 1) for line in lines)

    def assert_serves(self, machine: Machine) -> None:
        for place in ("127.0.0.1:7777", "[::1]:7777"):
            status, said = machine.run("wow", "quote", place)
            self.assertEqual(status, 0, said)

    def test_serves(self) -> None:
        """Confined as it is, without a word about what it may not do."""
        machine = self.start()
        self.assert_serves(machine)
        self.assertEqual(machine.run("wow", "health"), (0, "ready\n"))
        self.assertEqual(self.show(machine, "NRestarts"), "0")
        log = self.log(machine)
        self.assertNotIn("random_key", log)
        for word in ("Traceback", "denied", "not permitted", "plugin cache"):
            self.assertNotIn(word, log)

    def test_is_nobody(self) -> None:
        fields = self.status(self.start())
        self.assertNotIn("0", fields["Uid"].split())
        self.assertEqual(int(fields["CapEff"], 16), 0)
        self.assertEqual(int(fields["CapBnd"], 16), 0)
        self.assertEqual(fields["NoNewPrivs"].strip(), "1")
        self.assertEqual(fields["Seccomp"].strip(), "2")

    def test_sieve(self) -> None:
        """With the drop-in for it, the server has the one capability that it needs."""
        machine = self.start()
        self.drop_in.parent.mkdir()
        shutil.copy(TOP / "deploy/systemd/sieve.conf", self.drop_in)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", "wow.service")
        self.assert_serves(machine)
        fields = self.status(machine)
        self.assertNotIn("0", fields["Uid"].split())
        for name in ("CapEff", "CapBnd"):
            self.assertEqual(int(fields[name], 16), 1 << CAP_NET_ADMIN)

    def test_many_processes(self) -> None:
        """No less confined, and replaced by a reload."""
        machine = self.start()
        self.configuration.write_text(f"{self.configuration.read_text()}\nworkers: 2\n")
        machine.run("systemctl", "restart", "wow.service")
        wait_until(lambda: self.log(machine).count('"event": "worker_ready"') == 2)
        self.assert_serves(machine)
        machine.run("systemctl", "reload", "wow.service")
        wait_until(lambda: '"event": "replaced"' in self.log(machine))
        self.assert_serves(machine)
        self.assertEqual(self.show(machine, "NRestarts"), "0")
        self.assertNotIn("Traceback", self.log(machine))

    def test_restart_refuses_nobody(self) -> None:
        machine = self.start()
        machine.run("systemctl", "stop", "wow.service")
        self.assertEqual(self.show(machine, "Result"), "success")
        # The socket has it started.
        self.assert_serves(machine)
        self.until_shown(machine, "ActiveState", "active")

    def test_reload(self) -> None:
        machine = self.start()
        shipped = self.configuration.read_text()
        self.configuration.write_text(f"{shipped}\nlimits:\n  deny: [192.0.2.0/24]\n")
        self.assertEqual(machine.run("systemctl", "reload", "wow.service")[0], 0)
        wait_until(lambda: '"event": "reloaded"' in self.log(machine))
        self.configuration.write_text("limits: {color: red}\n")
        machine.run("systemctl", "reload", "wow.service")
        wait_until(lambda: '"event": "reload_refused"' in self.log(machine))
        self.until_shown(machine, "ActiveState", "active")
        self.assert_serves(machine)

    def test_killed(self) -> None:
        machine = self.start()
        machine.run("systemctl", "kill", "--signal=KILL", "wow.service")
        self.until_shown(machine, "NRestarts", "1")
        self.until_shown(machine, "ActiveState", "active")
        self.assert_serves(machine)

    def test_frozen(self) -> None:
        """What no longer turns is replaced, by the watchdog."""
        machine = self.start()
        self.drop_in.parent.mkdir()
        self.drop_in.write_text("[Service]\nWatchdogSec=1\nTimeoutAbortSec=1\n")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", "wow.service")
        machine.run("systemctl", "kill", "--signal=STOP", "wow.service")
        self.until_shown(machine, "NRestarts", "1")
        self.until_shown(machine, "ActiveState", "active")
        self.assert_serves(machine)

    def test_configuration_that_is_wrong(self) -> None:
        """It fails to start, and the log says which key."""
        machine = self.start()
        self.configuration.write_text("limits: {color: red}\n")
        self.assertNotEqual(machine.run("systemctl", "restart", "wow.service")[0], 0)
        self.assertIn("limits.color: unknown key", self.log(machine))
