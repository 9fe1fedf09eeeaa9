"""What systemd is told, as a real datagram socket hears it."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from wow.logs import make_logger
from wow.notify import Notices


class NoticesTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        # The names of Unix sockets are short, and trial's folders are deep.
        self.address = f"@wow-notify-{os.getpid()}-{id(self)}"
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.setblocking(False)
        self.systemd.bind(f"\0{self.address[1:]}")
        self.clock = MemoryReactorClock()
        self.clock.run()
        self.file = io.StringIO()

    def notices(self, **environ: str) -> Notices:
        log = make_logger(self.file, "info", "json")
        return Notices({"NOTIFY_SOCKET": self.address, **environ}, self.clock, log)

    def heard(self) -> list[str]:
        """What has been told since the last look, a datagram each."""
        found = []
        while True:
            try:
                found.append(self.systemd.recv(4096).decode())
            except BlockingIOError:
                return found


class States(NoticesTestCase):
    def test_ready(self) -> None:
        notices = self.notices()
        self.assertEqual(self.heard(), [])
        notices.startService()
        self.assertEqual(self.heard(), ["READY=1"])

    def test_not_before_signals_are_heeded(self) -> None:
        self.clock = MemoryReactorClock()
        self.notices().startService()
        self.assertEqual(self.heard(), [])
        self.clock.run()
        self.assertEqual(self.heard(), ["READY=1"])

    def test_stopping(self) -> None:
        notices = self.notices()
        notices.startService()
        self.heard()
        notices.stopService()
        self.assertEqual(self.heard(), ["STOPPING=1"])

    def test_reloading(self) -> None:
        """It is told before and after, with the time that newer versions ask for."""
        during: list[str] = []
        self.notices().around(lambda: during.extend(self.heard()))()
        (told,) = during
        state, moment = told.split("\n")
        self.assertEqual(state, "RELOADING=1")
        self.assertRegex(moment, r"^MONOTONIC_USEC=\d+$")
        self.assertEqual(self.heard(), ["READY=1"])

    def test_reload_that_fails_is_over_too(self) -> None:
        with self.assertRaises(ZeroDivisionError):
            self.notices().around(lambda: 1 // 0)()
        self.assertEqual(self.heard()[1:], ["READY=1"])


class Places(NoticesTestCase):
    def test_in_the_file_system(self) -> None:
        path = str(Path(f"/tmp/wow-notify-{os.getpid()}-{id(self)}"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as self.systemd:
            self.systemd.bind(path)
            self.addCleanup(os.unlink, path)
            self.systemd.setblocking(False)
            self.notices(NOTIFY_SOCKET=path).startService()
            self.assertEqual(self.heard(), ["READY=1"])

    def test_no_systemd(self) -> None:
        notices = self.notices(NOTIFY_SOCKET="", WATCHDOG_USEC="1000000")
        notices.startService()
        notices.around(lambda: None)()
        notices.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.file.getvalue(), "")

    def test_systemd_is_gone(self) -> None:
        """That is worth a warning, and nothing else."""
        self.systemd.close()
        self.notices().startService()
        line = json.loads(self.file.getvalue())
        self.assertEqual((line["event"], line["told"]), ("notify_failed", "READY=1"))


class Watchdog(NoticesTestCase):
    def test_hears_twice_as_often_as_it_wants(self) -> None:
        self.notices(WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid())).startService()
        self.clock.pump([14.9])
        self.heard()
        self.clock.pump([0.2, 14.9, 0.2])
        self.assertEqual(self.heard(), ["WATCHDOG=1"] * 2)

    def test_at_once(self) -> None:
        self.notices(WATCHDOG_USEC="30000000").startService()
        self.assertEqual(self.heard(), ["READY=1", "WATCHDOG=1"])

    def test_not_after_the_end(self) -> None:
        notices = self.notices(WATCHDOG_USEC="30000000")
        notices.startService()
        notices.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_of_another_process(self) -> None:
        self.notices(WATCHDOG_USEC="1000000", WATCHDOG_PID="1").startService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_rubbish(self) -> None:
        for period in ("", "0", "-1", "x", "1.5", "\N{SUPERSCRIPT TWO}"):
            self.notices(WATCHDOG_USEC=period).startService()
            self.assertEqual(self.clock.getDelayedCalls(), [], period)
