"""C{wow reload}, with what the operators' site says handed to it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

from wow.test.test_cli import CommandTestCase

SERVER = b"/usr/bin/python3\0/opt/wow/bin/twistd\0--nodaemon\0wow\0--config\0wow.yaml\0"
ACCEPTED = {"number": 5, "outcome": "accepted", "at": "", "restart_needed": []}


class ReloadTests(CommandTestCase):
    def setUp(self) -> None:
        self.killed: list[tuple[int, int]] = []
        self.command_line = SERVER
        self.failure: OSError | None = None

    def kill(self, pid: int, number: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.killed.append((pid, number))

    def reload(self, *pages: Any, words: tuple[str, ...] = ()) -> tuple[int, str]:
        """What comes of it when these are the pages that are told, one after the other."""
        bodies = iter([(503, json.dumps(page).encode()) for page in pages])

        def fetch(
            place: tuple[str, int], path: str, timeout: float, token: str | None
        ) -> tuple[int, bytes]:
            self.asked, self.token = (place, path), token
            return next(bodies)

        with (
            patch("wow.cli.reload.fetch", fetch),
            patch.object(os, "kill", self.kill),
            patch("time.sleep"),
            patch.object(Path, "read_bytes", lambda path: self.command_line),
        ):
            code = self.wow("reload", *words)
        return code, self.out + self.err

    def page(self, **reload: Any) -> dict[str, Any]:
        return {"ready": False, "pid": 4711, "reload": {"number": 4} | reload}

    def test_accepted(self) -> None:
        came = self.reload(self.page(), self.page(), self.page(**ACCEPTED))
        self.assertEqual(came, (0, "reloaded\n"))
        self.assertEqual(self.killed, [(4711, signal.SIGHUP)])
        self.assertEqual(self.asked, (("127.0.0.1", 7778), "/health/ready"))

    def test_site_that_wants_to_know_who_asks(self) -> None:
        code, said = self.reload({"ready": True})
        self.assertEqual((code, self.killed, self.token), (1, [], None))
        self.assertIn("--token file:PATH", said)

    def test_token(self) -> None:
        self.patch(os, "environ", os.environ | {"OPERATORS": "a-token-of-operators"})
        self.reload(self.page(), self.page(**ACCEPTED), words=("--token", "env:OPERATORS"))
        self.assertEqual(self.token, "a-token-of-operators")

    def test_what_needs_a_restart(self) -> None:
        told = ACCEPTED | {"restart_needed": ["listen", "pow.ttl"]}
        code, said = self.reload(self.page(), self.page(**told), words=("127.0.0.1:9",))
        self.assertEqual(code, 0)
        self.assertEqual(said, "reloaded; a restart is needed for listen, pow.ttl\n")
        self.assertEqual(self.asked[0], ("127.0.0.1", 9))

    def test_refused(self) -> None:
        told = {"number": 5, "outcome": "refused", "reason": "pow.rounds:\x1b too many"}
        code, said = self.reload(self.page(), self.page(**told))
        self.assertEqual(code, 1)
        self.assertEqual(said, "wow: refused, and nothing has changed: pow.rounds:\\x1b too many\n")

    def test_only_a_server_gets_the_signal(self) -> None:
        """Else anybody who listens there could have root end any process."""
        for line in (b"/sbin/init\0", b"vi\0twistd.log\0", b"twistd\0web\0", b""):
            self.command_line = line
            code, said = self.reload(self.page())
            self.assertEqual((code, self.killed), (1, []), line)
            self.assertIn("on its own machine", said)
        self.command_line = SERVER
        for pid in (0, -1):
            self.assertEqual(self.reload(self.page() | {"pid": pid})[0], 1)
        self.assertEqual(self.killed, [])

    def test_another_users(self) -> None:
        self.failure = PermissionError(1, "Operation not permitted")
        code, said = self.reload(self.page())
        self.assertEqual(code, 1)
        self.assertIn("as that user, or as root", said)

    def test_no_outcome(self) -> None:
        pages = [self.page()] * 3
        with patch("time.monotonic", iter((0.0, 0.0, 0.0, 61.0, 61.0)).__next__):
            code, said = self.reload(*pages)
        self.assertEqual(code, 5)
        self.assertIn("see the server's log", said)

    def test_that_is_no_server(self) -> None:
        nobody: tuple[Any, ...] = (
            {},
            [],
            {"pid": "x", "reload": {}},
            {"pid": 1, "reload": {"number": None}},
        )
        for page in nobody:
            self.assertEqual(self.reload(page)[0], 6, page)
        self.assertEqual(self.killed, [])
