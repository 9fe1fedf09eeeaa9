"""TLS as clients see it, in memory: versions, refusals, and a certificate that is replaced."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.certificate import Certificate, load
from wow.connection import Peer
from wow.endpoint import TlsFiles
from wow.identity import Identity
from wow.test.certificates import Issued, issue
from wow.test.test_proxy_layer import Wire
from wow.tls import TlsLayer

PEER = Peer("192.0.2.7", 4711)


class Echo(Protocol):
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Echoing(Factory):
    """
    @ivar refuses: whether nobody gets a protocol.
    @ivar asked: for whom a protocol was to be.
    """

    refuses = False

    def __init__(self) -> None:
        self.asked: list[IAddress | None] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        self.asked.append(addr)
        return None if self.refuses else Echo()


class Client:
    """
    The client's end of a connection in memory.

    @ivar wire: the server's transport.
    """

    def __init__(
        self,
        layer: Any,
        clock: Clock,
        context: ssl.SSLContext,
        session: ssl.SSLSession | None = None,
        beginning: bytes = b"",
    ) -> None:
        """
        @param beginning: is sent before anything of TLS.
        """
        self._clock = clock
        self.wire = Wire()
        self.wire.protocol = layer.buildProtocol(PEER)
        self.wire.protocol.makeConnection(self.wire)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._outgoing.write(beginning)
        self.tls = context.wrap_bio(self._incoming, self._outgoing, session=session)
        self._until_done(self.tls.do_handshake)

    def _until_done(self, step: Any) -> Any:
        for _ in range(9):
            try:
                return step()
            except ssl.SSLWantReadError:
                self._exchange()
        raise AssertionError("it does not come to an end")

    def _exchange(self) -> None:
        self.wire.deliver(self._outgoing.read())
        self._clock.advance(0)
        self._incoming.write(self.wire.value())
        self.wire.clear()

    def certificate(self) -> bytes:
        """What the server showed, DER."""
        shown = self.tls.getpeercert(True)
        assert shown is not None
        return shown

    def echo(self, data: bytes) -> bytes:
        self.tls.write(data)
        echoed = b""
        while len(echoed) < len(data):
            echoed += self._until_done(lambda: self.tls.read(2**16))
        return echoed


class Layered(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.factory = Clock(), Echoing()
        self.old, self.new = issue(), issue()
        self.identity = Identity(TlsFiles(Path(), Path()), self.load(self.old))
        self.layer = TlsLayer(self.identity, self.factory, self.clock)

    def load(self, issued: Issued) -> Certificate:
        path = Path(self.mktemp())
        path.write_bytes(issued.private + issued.public)
        path.chmod(0o600)
        return load(TlsFiles(path, path))

    def connect(self, context: ssl.SSLContext | None = None) -> Client:
        return Client(self.layer, self.clock, context or trusting())

    def check_shown(self, client: Client, issued: Issued) -> None:
        self.assertEqual(client.certificate(), ssl.PEM_cert_to_DER_cert(issued.public.decode()))


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Talking(Layered):
    def test_both_ways(self) -> None:
        client = self.connect()
        self.assertEqual(client.echo(b"hello"), b"hello")
        self.assertEqual(client.echo(b"x" * 100_000), b"x" * 100_000)

    def test_factory_is_told_of_whom(self) -> None:
        self.connect()
        self.assertEqual(self.factory.asked, [PEER])

    def test_refusal_stays_one(self) -> None:
        self.factory.refuses = True
        self.assertIsNone(self.layer.buildProtocol(PEER))

    def test_reads_about_a_record_at_once(self) -> None:
        self.assertEqual(self.connect().wire.bufferSize, 2**14)


class Versions(Layered):
    def client_of(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        context = trusting()
        # Old versions are beneath the library's dignity too.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
        return context

    def test_new_ones(self) -> None:
        for version, name in (
            (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
            (ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ):
            self.assertEqual(self.connect(self.client_of(version)).tls.version(), name)

    def test_old_ones(self) -> None:
        old = self.client_of(ssl.TLSVersion.TLSv1_2)
        old.options |= ssl.OP_NO_TLSv1_2
        error = self.assertRaises(ssl.SSLError, self.connect, old)
        self.assertIn("PROTOCOL_VERSION", str(error))


class Replacing(Layered):
    def test_new_connections_are_shown_the_new_certificate(self) -> None:
        self.check_shown(self.connect(), self.old)
        self.identity.certificate = self.load(self.new)
        self.check_shown(self.connect(), self.new)

    def test_open_ones_go_on(self) -> None:
        client = self.connect()
        self.identity.certificate = self.load(self.new)
        self.assertEqual(client.echo(b"still there"), b"still there")
        self.check_shown(client, self.old)

    def test_a_session_of_before_is_not_resumed(self) -> None:
        """Or its client would not be shown the new one."""
        context = trusting()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.maximum_version = version
            first = self.connect(context)
            first.echo(b"hello")
            again = Client(self.layer, self.clock, context, first.tls.session)
            again.echo(b"hello")
            self.assertFalse(again.tls.session_reused)
