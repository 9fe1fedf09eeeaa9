"""Who may see the operators' site, asked over HTTP without a port."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource

from wow.admin import bearer
from wow.admin.channel import STRANGERS, WITHIN, Channel
from wow.admin.health import Check, Health
from wow.admin.lock import Lock, names_loopback
from wow.admin.site import make_site
from wow.config import Admin, ConfigError, Settings
from wow.metrics import Metrics
from wow.test.test_admin import HERE, parse

TOKEN = "correct-horse-battery-staple+/="
GUARDED = ("/", "/metrics", "/nothing", "/health", "/health/", "/health/live/x", "//health/live")
TOKENS = st.from_regex(r"[A-Za-z0-9._~+/-]{16,80}={0,3}", fullmatch=True)


def admin(**settings: Any) -> Admin:
    """Settings as they are once they were checked."""
    return Admin.model_construct(**{**Admin().__dict__, **settings})


class Transport(StringTransport):
    """
    @ivar certificate: what the peer has shown, and was believed.
    """

    certificate: object = None
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()

    def getPeerCertificate(self) -> object:
        return self.certificate


class LockTestCase(SynchronousTestCase):
    """
    @ivar trouble: what is wrong with the spent store.
    """

    def setUp(self) -> None:
        self.trouble: str | None = None
        self.clock = Clock()
        self.use(admin(token=TOKEN))

    def use(self, settings: Admin, **environ: str) -> None:
        self.lock = Lock(settings, environ)
        health = Health({"spent": Check(lambda: self.trouble)})
        self.site = make_site(Metrics().registry, health, self.lock, self.clock, Resource())

    def connect(self) -> tuple[Channel, Transport]:
        channel: Any = self.site.buildProtocol(HERE)
        # As HTTPChannel's own deadlines take it.
        channel.callLater = self.clock.callLater
        transport = Transport(HERE)
        channel.makeConnection(transport)
        return channel, transport

    def ask(self, path: str, *headers: str, certificate: object = None) -> bytes:
        channel, transport = self.connect()
        transport.certificate = certificate
        channel.dataReceived(request(path, *headers))
        return bytes(transport.value())

    def get(self, path: str, *headers: str, certificate: object = None) -> tuple[int, str]:
        """The status and the body of a page."""
        status, _, body = parse(self.ask(path, *headers, certificate=certificate))
        return status, body


def request(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


class Token(LockTestCase):
    def test_opens(self) -> None:
        for scheme in ("Bearer ", "bearer ", "BEARER   "):
            self.assertEqual(self.get("/metrics", f"Authorization: {scheme}{TOKEN}")[0], 200)

    def test_demanded_on_loopback_too(self) -> None:
        for path in GUARDED:
            self.assertEqual(self.get(path, "Host: localhost")[0], 401, path)

    def test_says_how_to_show_it(self) -> None:
        said = self.ask("/metrics")
        self.assertIn(b'WWW-Authenticate: Bearer realm="operators of wow"', said)
        self.assertIn(b'WWW-Authenticate: Basic realm="operators of wow", charset="UTF-8"', said)
        self.assertIn("admin.token", parse(said)[2])

    def test_any_other_does_not(self) -> None:
        for header in (
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            f"Bearer {TOKEN} x",
            f"Bearer{TOKEN}",
            f"Basic {TOKEN}",
            f"Bearer  \t{TOKEN}",
            "Bearer ",
            "Bearer",
            f"Bearer {'x' * 8000}",
            f"Bearer {TOKEN.upper()}",
            "Bearer \xff",
            TOKEN,
        ):
            self.assertEqual(self.get("/metrics", f"Authorization: {header}")[0], 401, header)

    def test_not_by_one_of_two(self) -> None:
        """Who passes a request on may have looked at the other."""
        two = f"Authorization: Bearer {TOKEN}", "Authorization: Bearer other"
        for headers in (two, two[::-1]):
            self.assertEqual(self.get("/metrics", *headers)[0], 401)

    def test_not_in_the_url(self) -> None:
        self.assertEqual(self.get(f"/metrics?access_token={TOKEN}&token={TOKEN}")[0], 401)

    def test_not_kept(self) -> None:
        self.assertNotIn(TOKEN, repr(vars(self.lock)["_digest"]))
        self.use(admin(token="env:TOKEN"), TOKEN=TOKEN)
        self.assertEqual(self.get("/metrics", f"Authorization: Bearer {TOKEN}")[0], 200)

    def test_changed_while_it_runs(self) -> None:
        environ = {"TOKEN": TOKEN}
        settings = admin(token="env:TOKEN")
        self.lock = Lock(settings, environ)
        self.site = make_site(Metrics().registry, Health({}), self.lock, self.clock, Resource())
        environ["TOKEN"] = new = "another-one-that-is-long"
        put_in_force = self.lock.prepare(Settings.model_construct(admin=settings))
        self.assertEqual(self.get("/metrics", f"Authorization: Bearer {TOKEN}")[0], 200)
        put_in_force()
        self.assertEqual(self.get("/metrics", f"Authorization: Bearer {TOKEN}")[0], 401)
        self.assertEqual(self.get("/metrics", f"Authorization: Bearer {new}")[0], 200)

    def test_stays_when_another_place_is_named_or_the_new_one_cannot_be_used(self) -> None:
        environ = {"TOKEN": TOKEN}
        settings = admin(token="env:TOKEN")
        lock = Lock(settings, environ)
        before = vars(lock)["_digest"]
        for other in (None, "env:OTHER", "literal-and-long-enough"):
            lock.prepare(Settings.model_construct(admin=admin(token=other)))()
            self.assertEqual(vars(lock)["_digest"], before)
        for bad in ("short", ""):
            environ["TOKEN"] = bad
            same = Settings.model_construct(admin=settings)
            error = self.assertRaises(ConfigError, lock.prepare, same)
            self.assertIn("admin.token", str(error))


class Probes(LockTestCase):
    """Health answers are for anybody, as far as a probe has to know."""

    def test_live(self) -> None:
        self.assertEqual(self.get("/health/live"), (200, '{"live": true}\n'))

    def test_ready(self) -> None:
        self.assertEqual(self.get("/health/ready"), (200, '{\n "ready": true\n}\n'))

    def test_not_ready_and_not_why(self) -> None:
        self.trouble = "no answer from valkey.internal"
        status, body = self.get("/health/ready")
        self.assertEqual((status, json.loads(body)), (503, {"ready": False}))

    def test_why_for_operators(self) -> None:
        self.trouble = "no answer from valkey.internal"
        status, body = self.get("/health/ready", f"Authorization: Bearer {TOKEN}")
        self.assertEqual((status, json.loads(body)["reasons"]), (503, {"spent": self.trouble}))


class Certificate(LockTestCase):
    def test_opens(self) -> None:
        self.use(admin(client_ca="ca.pem"))
        self.assertEqual(self.get("/metrics", certificate=object())[0], 200)

    def test_demanded(self) -> None:
        self.use(admin(client_ca="ca.pem"))
        for path in GUARDED:
            status, body = self.get(path, "Host: localhost")
            self.assertEqual(status, 403, path)
            self.assertIn("certificate", body)
        self.assertEqual(self.get("/health/live")[0], 200)

    def test_or_the_token(self) -> None:
        self.use(admin(client_ca="ca.pem", token=TOKEN))
        self.assertEqual(self.get("/metrics", certificate=object())[0], 200)
        self.assertEqual(self.get("/metrics", f"Authorization: Bearer {TOKEN}")[0], 200)
        self.assertEqual(self.get("/metrics")[0], 401)

    def test_is_nothing_where_none_is_asked_for(self) -> None:
        self.assertEqual(self.get("/metrics", certificate=object())[0], 401)


class Loopback(LockTestCase):
    """Without token and certificate, the site is for this machine."""

    def setUp(self) -> None:
        super().setUp()
        self.use(admin())

    def test_by_its_own_names(self) -> None:
        for host in ("localhost", "LocalHost:7778", "127.0.0.1", "127.9.9.9:1", "[::1]:7778"):
            self.assertEqual(self.get("/metrics", f"Host: {host}")[0], 200, host)

    def test_not_by_a_name_that_another_page_has(self) -> None:
        for headers in (
            ["Host: example.org"],
            ["Host: localhost.example.org:7778"],
            ["Host: 127.0.0.1.example.org"],
            ["Host: 10.0.0.1"],
            ["Host: [::1"],
            ["Host: "],
            ["Host: localhost", "Host: example.org"],
            [],
        ):
            for path in GUARDED:
                self.assertEqual(self.get(path, *headers)[0], 403, (headers, path))
            self.assertEqual(json.loads(self.get("/health/ready", *headers)[1]), {"ready": True})

    def test_unix_socket_by_any(self) -> None:
        self.use(admin(listen="unix:/run/wow.admin"))
        self.assertEqual(self.get("/metrics", "Host: example.org")[0], 200)


class Connections(LockTestCase):
    """What a stranger may take."""

    def test_refused_is_closed(self) -> None:
        for path in ("/metrics", "/health/live"):
            channel, transport = self.connect()
            channel.dataReceived(request(path))
            self.assertTrue(transport.disconnecting, path)
            self.assertEqual(transport.value().count(b"Connection: close\r\n"), 1)

    def test_operator_goes_on(self) -> None:
        channel, transport = self.connect()
        for _ in range(3):
            transport.clear()
            channel.dataReceived(request("/metrics", f"Authorization: Bearer {TOKEN}"))
            self.assertIn(b" 200 OK", transport.value())
            self.clock.advance(WITHIN)
        self.assertFalse(transport.disconnecting)

    def test_silent_or_slow_one_is_ended(self) -> None:
        channel, transport = self.connect()
        for byte in b"GET /health/li":
            self.clock.advance(WITHIN / 16)
            channel.dataReceived(bytes([byte]))
        self.assertFalse(transport.aborted)
        self.clock.advance(WITHIN / 8)
        self.assertTrue(transport.aborted)

    def test_crowd_of_them_keeps_nobody_out(self) -> None:
        strangers = [self.connect()[1] for _ in range(STRANGERS)]
        channel, transport = self.connect()
        self.assertEqual([each.aborted for each in strangers], [True] + [False] * (STRANGERS - 1))
        channel.dataReceived(request("/metrics", f"Authorization: Bearer {TOKEN}"))
        self.assertIn(b" 200 OK", transport.value())
        for _ in range(2 * STRANGERS):
            self.connect()
        self.assertFalse(transport.aborted)

    def test_gone_takes_no_place(self) -> None:
        first = self.connect()[1]
        for _ in range(3 * STRANGERS):
            self.connect()[0].connectionLost()
        self.assertFalse(first.aborted)

    def test_body_is_not_read(self) -> None:
        for body in (
            ["Content-Length: 1000000000"],
            ["Content-Length: 1"],
            ["Transfer-Encoding: chunked"],
        ):
            for path in ("/metrics", "/health/live"):
                channel, transport = self.connect()
                token = f"Authorization: Bearer {TOKEN}"
                channel.dataReceived(request(path, token, *body).replace(b"GET", b"POST"))
                for _ in range(3):
                    channel.dataReceived(b"x" * 65536)
                self.assertTrue(transport.value().startswith(b"HTTP/1.1 413 "), body)
                self.assertEqual(transport.value().count(b"HTTP/1.1"), 1)
                self.assertTrue(transport.disconnecting)

    def test_empty_body_is_none(self) -> None:
        self.assertEqual(self.get("/health/live", "Content-Length: 0")[0], 200)


class Parser(SynchronousTestCase):
    """The header, whatever it holds."""

    @given(TOKENS, st.sampled_from(["Bearer", "bearer", "bEARER"]), st.integers(1, 5))
    def test_token(self, token: str, scheme: str, spaces: int) -> None:
        bearer.check(token)
        header = f"{scheme}{' ' * spaces}{token}".encode()
        self.assertEqual(bearer.shown([header]), token.encode())

    @given(st.lists(st.binary(max_size=200), max_size=3))
    def test_anything(self, headers: list[bytes]) -> None:
        shown = bearer.shown(headers)
        if shown is not None:
            self.assertEqual(len(headers), 1)
            self.assertTrue(headers[0].lower().startswith(b"bearer "))
            self.assertTrue(headers[0].endswith(shown))
            self.assertRegex(shown, rb"\A[A-Za-z0-9._~+/-]+=*\Z")

    @given(TOKENS, TOKENS)
    def test_opens_to_the_one_token(self, token: str, other: str) -> None:
        lock = Lock(admin(token=token), {})
        for tried in (token, other, token + "x", token[1:]):
            asked = Asked({"Authorization": [f"Bearer {tried}"]})
            self.assertEqual(lock.refusal(asked) is None, tried == token)  # type: ignore[arg-type]

    @given(st.binary(max_size=60))
    def test_any_host(self, header: bytes) -> None:
        if names_loopback([header]):
            name = header.decode("ascii").rpartition(":")[0] or header.decode("ascii")
            self.assertTrue(re.match(r"(?i)localhost|127\.|\[", name), header)

    @given(st.text())
    def test_check(self, token: str) -> None:
        try:
            bearer.check(token)
        except ValueError as bad:
            if len(token) > 3:
                self.assertNotIn(f" {token} ", str(bad))
        else:
            self.assertEqual(bearer.shown([b"Bearer " + token.encode()]), token.encode())


class Asked:
    """A request, as far as a lock without certificates looks at it."""

    def __init__(self, headers: dict[str, list[str]]) -> None:
        self.requestHeaders = Headers(headers)
