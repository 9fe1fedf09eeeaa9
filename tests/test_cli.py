"""The C{wow} command as users run it: a process of its own, and a server on a socket."""

from __future__ import annotations

import datetime
import json
import os
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor, ssl, task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    UNIXServerEndpoint,
    wrapServerTLS,
)
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from wow import wire
from wow.pow import work
from wow.test.fake_server import FakeServerFactory, Say, answering, greeting, honestly

# What the console script does.
COMMAND = [sys.executable, "-c", "import sys; from wow.cli.main import main; sys.exit(main())"]
LINE = "Know thyself. \N{EM DASH} Socrates\n"
ENDLESS = answering(wire.Challenge("A", 64, 2**32 - 1, f"{work.target(2**32 - 1):016x}", 60.0))
MUCH = "2^38"


class Running(ProcessProtocol):
    """
    A command that is running.

    @ivar out: what it wrote, everything if it runs on a terminal.
    @ivar ended: fires with its exit code.
    """

    transport: Any

    def __init__(self) -> None:
        self.out = b""
        self.err = b""
        self.ended: Deferred[int | None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.out += data

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        reason.trap(ProcessDone, ProcessTerminated)
        assert isinstance(reason.value, (ProcessDone, ProcessTerminated))
        self.ended.callback(reason.value.exitCode)


def searchers(parent: int) -> list[int]:
    """The searching processes of a process."""
    return [pid for pid, its_parent in _searching() if its_parent == parent]


def _searching() -> list[tuple[int, int]]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            stat = (folder / "stat").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(work.__file__) in command:
            found.append((int(folder.name), int(stat.rpartition(")")[2].split()[1])))
    return found


class CommandTestCase(TestCase):
    """Runs servers and commands."""

    timeout = 60

    async def serve(self, say: Say, endpoint: IStreamServerEndpoint | None = None) -> str:
        """A server that says this; where it is."""
        if endpoint is None:
            endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        factory = FakeServerFactory(say)
        port = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        return f"127.0.0.1:{getattr(port.getHost(), 'port', 0)}"

    async def wow(self, *words: str, **environ: str) -> tuple[int, str, str]:
        """Run the command in a pipe; its exit code and what it said."""
        executable, *arguments = [*COMMAND, *words]
        out, err, code = await getProcessOutputAndValue(
            executable, arguments, env={**os.environ, **environ}
        )
        return code, out.decode(), err.decode()

    async def quote(self, *words: str) -> tuple[int, str, str]:
        """Ask for a quote, with no more processes than the machine may have cores."""
        return await self.wow("quote", "--processes=2", *words)

    async def assert_fails(self, code: int, said: str, *words: str) -> None:
        """It fails with one line that says so, and nothing else."""
        ended, out, line = await self.quote(*words)
        self.assertEqual((ended, out), (code, ""))
        self.assertTrue(line.startswith("wow: "), line)
        self.assertEqual(line.count("\n"), 1, line)
        self.assertIn(said, line)

    def start(self, *words: str, terminal: bool = False) -> Running:
        """Run the command until the test ends it."""
        running = Running()
        spawn: Any = reactor
        environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        spawn.spawnProcess(running, COMMAND[0], [*COMMAND, *words], env=environ, usePTY=terminal)
        return running

    async def until_searching(self, running: Running) -> list[int]:
        """The command's two searching processes, once there are."""
        while len(found := searchers(running.transport.pid)) < 2:
            await task.deferLater(reactor, 0.01)
        return found

    async def until_gone(self, pids: list[int]) -> None:
        while set(pids) & {pid for pid, _ in _searching()}:
            await task.deferLater(reactor, 0.01)


class QuoteTests(CommandTestCase):
    """All goes well."""

    async def test_in_a_pipe(self) -> None:
        """Just the quote."""
        place = await self.serve(partial(honestly, rounds=3, round_effort=2**16))
        self.assertEqual(await self.quote(place), (0, LINE, ""))

    async def test_forced_colours(self) -> None:
        """What makes tools take a pipe for a terminal does not put bars in it."""
        place = await self.serve(partial(honestly, rounds=2, round_effort=2**19))
        forced = {"FORCE_COLOR": "1", "TTY_INTERACTIVE": "1", "TTY_COMPATIBLE": "1"}
        self.assertEqual(await self.wow("quote", place, **forced), (0, LINE, ""))

    async def test_endpoint_string(self) -> None:
        place = await self.serve(honestly)
        self.assertEqual(await self.quote(f"tcp:{place}"), (0, LINE, ""))

    async def test_unix_socket(self) -> None:
        path = Path("s").absolute()
        await self.serve(honestly, UNIXServerEndpoint(reactor, str(path)))
        self.assertEqual(await self.quote(f"unix:{path}"), (0, LINE, ""))

    async def test_count_and_json(self) -> None:
        place = await self.serve(honestly)
        code, out, err = await self.quote(place, "--count=3", "--json")
        self.assertEqual((code, err), (0, ""))
        lines = [json.loads(line) for line in out.splitlines()]
        fields = {"text": "Know thyself.", "author": "Socrates", "source": "file"}
        self.assertEqual(lines, [fields] * 3)

    async def test_harmless(self) -> None:
        """A server cannot reach the terminal behind the pipe."""

        def say(server: Any, message: wire.ClientMessage | None) -> None:
            if isinstance(message, wire.Solution):
                server.send(wire.Quote("\x1b]0;title\x07\u202e", "\x9b31m", ""))
            else:
                honestly(server, message)

        _, out, _ = await self.quote(await self.serve(say))
        self.assertEqual(out, "\\x1b]0;title\\x07\\u202e \N{EM DASH} \\x9b31m\n")

    async def test_terminal_without_unicode(self) -> None:
        place = await self.serve(honestly)
        code, out, err = await self.wow("quote", place, PYTHONIOENCODING="ascii")
        self.assertEqual((code, out, err), (0, "Know thyself. \\u2014 Socrates\n", ""))

    async def test_nobody_reads(self) -> None:
        """As in C{wow quote --count 100 | head -1}: no noise, and no more work."""
        place = await self.serve(honestly)
        command = " ".join(f"'{word}'" for word in [*COMMAND, "quote", place, "--count=100"])
        out, err, _ = await getProcessOutputAndValue(
            "/bin/sh", ["-c", f"({command}; echo $? >&2) | head -n 1"], env=None
        )
        self.assertEqual((out.decode(), err), (LINE, b"141\n"))

    async def test_full_disk(self) -> None:
        place = await self.serve(honestly)
        command = " ".join(f"'{word}'" for word in [*COMMAND, "quote", place])
        out, err, code = await getProcessOutputAndValue(
            "/bin/sh", ["-c", f"{command} > /dev/full"], env=None
        )
        self.assertEqual((code, out), (1, b""))
        self.assertEqual(err, b"wow: the output cannot be written: No space left on device\n")


class FailureTests(CommandTestCase):
    """Each failure has its exit code, and one line on standard error."""

    async def test_refused(self) -> None:
        place = await self.serve(answering(wire.Error("busy", "Full\x1b.", 2.5)))
        await self.assert_fails(1, "(busy): Full\\x1b. Try again in 2.5 s.", place)

    async def test_no_server(self) -> None:
        path = Path("s").absolute()
        await self.assert_fails(3, f"could not connect to unix:{path}", f"unix:{path}")

    async def test_nobody_listens(self) -> None:
        """A port that is taken, so that nobody else listens there."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{taken.getsockname()[1]}"
            await self.assert_fails(3, f"is the server running at {place}?", place)

    async def test_lost(self) -> None:
        def say(server: Any, message: wire.ClientMessage | None) -> None:
            if message is not None:
                server.transport.abortConnection()

        await self.assert_fails(3, "ended before the answer", await self.serve(say))

    async def test_too_expensive(self) -> None:
        place = await self.serve(partial(honestly, rounds=4, round_effort=2**20))
        await self.assert_fails(4, "give --max-effort 4194304", place, "--max-effort=2^21")

    async def test_out_of_time(self) -> None:
        place = await self.serve(ENDLESS)
        words = (place, "--timeout=0.5", f"--max-effort={MUCH}")
        await self.assert_fails(5, "no answer within 0.5 seconds", *words)

    async def test_other_protocol(self) -> None:
        for greets in (b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
            await self.assert_fails(6, "is no wow server", await self.serve(greeting(greets)))

    async def test_usage(self) -> None:
        self.assertEqual((await self.quote("--count=0"))[0], 2)


class TLSTests(CommandTestCase):
    """Over TLS, whose certificates are checked."""

    async def serve_tls(self) -> str:
        self.certificate, key = certificate_for("localhost")
        creator: Any = ssl.PrivateCertificate.loadPEM(self.certificate + key).options()
        plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        place = await self.serve(honestly, wrapServerTLS(creator, plain))
        return f"tls:localhost:{place.partition(':')[2]}"

    async def test_trusted(self) -> None:
        place = await self.serve_tls()
        Path("roots").mkdir()
        Path("roots/root.pem").write_bytes(self.certificate)
        self.assertEqual(await self.quote(f"{place}:trustRoots=roots"), (0, LINE, ""))

    async def test_untrusted(self) -> None:
        await self.assert_fails(3, "certificate verify failed", await self.serve_tls())


class TerminalTests(CommandTestCase):
    """At a terminal."""

    async def test_bars(self) -> None:
        place = await self.serve(partial(honestly, rounds=4, round_effort=2**20))
        running = self.start("quote", "--processes=2", place, terminal=True)
        self.assertEqual(await running.ended, 0)
        shown = running.out.decode()
        for part in (
            "round 1/4",
            "round 4/4",
            " hashes, solved",
            "\N{BOX DRAWINGS HEAVY HORIZONTAL}",
        ):
            self.assertIn(part, shown)
        bars, _, after = shown.rpartition("\x1b[?25h")
        self.assertNotIn(LINE.strip(), bars)
        self.assertTrue(after.endswith(LINE.replace("\n", "\r\n")))
        self.assertNotIn("round", after)

    async def test_ctrl_c(self) -> None:
        """The key itself: it reaches the searching processes too."""
        place = await self.serve(ENDLESS)
        running = self.start("quote", "--processes=2", f"--max-effort={MUCH}", place, terminal=True)
        pids = await self.until_searching(running)
        while b"hashes" not in running.out:
            await task.deferLater(reactor, 0.01)
        running.transport.write(b"\x03")
        self.assertEqual(await running.ended, 130)
        await self.until_gone(pids)
        self.assertNotIn(b"Traceback", running.out)
        self.assertIn(b"\x1b[?25h", running.out)


class SignalTests(CommandTestCase):
    """Signals end the command, and its processes with it."""

    async def signalled(self, name: str, say: Say = ENDLESS) -> tuple[int | None, bytes, bytes]:
        running = self.start(
            "quote", "--processes=2", f"--max-effort={MUCH}", await self.serve(say)
        )
        pids = await self.until_searching(running)
        running.transport.signalProcess(name)
        code = await running.ended
        await self.until_gone(pids)
        return code, running.out, running.err

    async def test_interrupted(self) -> None:
        self.assertEqual(await self.signalled("INT"), (130, b"", b""))

    async def test_terminated(self) -> None:
        self.assertEqual(await self.signalled("TERM"), (143, b"", b""))

    async def test_killed(self) -> None:
        self.assertEqual(await self.signalled("KILL"), (None, b"", b""))

    async def test_while_waiting_for_the_server(self) -> None:
        heard: Deferred[None] = Deferred()

        def say(server: Any, message: wire.ClientMessage | None) -> None:
            if message is not None:
                heard.callback(None)

        running = self.start("quote", await self.serve(say))
        await heard
        running.transport.signalProcess("INT")
        self.assertEqual(await running.ended, 130)
        self.assertEqual(running.err, b"")


def certificate_for(host: str) -> tuple[bytes, bytes]:
    """A certificate that its own key signed, and the key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
