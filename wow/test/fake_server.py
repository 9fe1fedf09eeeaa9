"""
A server that says what a test wants it to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure
from twisted.test.iosim import IOPump, makeFakeClient, makeFakeServer
from twisted.test.iosim import connect as join
from zope.interface import implementer

from wow import wire
from wow.pow import work

TOKEN = "AQEDBQAAEACPtjZ2AAADuyzD2ABAQUJDREVGR0hJSktMTU5P"
QUOTE = wire.Quote("Know thyself.", "Socrates", "file")

Say = Callable[["FakeServer", wire.ClientMessage | None], object]
"""Called with each message of the client's, and with None when it connects."""


def challenge(
    rounds: int = 2,
    round_effort: int = 16,
    token: str = TOKEN,
    target: str | None = None,
    algorithm: str = "sha256",
    expires_in: float = 60.0,
) -> wire.Challenge:
    """A challenge, by default a true one."""
    honest = f"{work.target(round_effort):016x}"
    return wire.Challenge(token, rounds, round_effort, target or honest, expires_in, algorithm)


class FakeServer(Int32StringReceiver):
    """
    One connection, spoken for by the test.

    @ivar heard: the client's messages.
    @ivar lost: whether the connection is over.
    """

    transport: ITransport

    def __init__(self, say: Say) -> None:
        self._say = say
        self.heard: list[wire.ClientMessage] = []
        self.lost = False

    def connectionMade(self) -> None:
        self._say(self, None)

    def stringReceived(self, string: bytes) -> None:
        message = wire.decode_from_client(string)
        self.heard.append(message)
        self._say(self, message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True

    def send(self, message: wire.ServerMessage) -> None:
        """Send a message as it is."""
        self.transport.write(wire.frame(message))


class FakeServerFactory(Factory):
    """
    Connections that all say the same.

    @ivar servers: those there were.
    """

    noisy = False

    def __init__(self, say: Say) -> None:
        self._say = say
        self.servers: list[FakeServer] = []

    def buildProtocol(self, addr: object) -> FakeServer:
        server = FakeServer(self._say)
        self.servers.append(server)
        return server


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects at once to a server of the test's."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.pump: IOPump

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        protocol: Any = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        self.pump = join(
            self.server, makeFakeServer(self.server), protocol, makeFakeClient(protocol)
        )
        return succeed(protocol)


def honestly(server: FakeServer, message: wire.ClientMessage | None, **terms: int) -> None:
    """Serve as a real server does, checking what comes in."""
    price = challenge(**terms)  # type: ignore[arg-type]
    if isinstance(message, wire.Request):
        server.send(price)
    elif isinstance(message, wire.Solution):
        right = len(message.nonces) == price.rounds and work.check(
            message.challenge, message.nonces, work.target(price.round_effort)
        )
        server.send(QUOTE if right else wire.Error("insufficient_work", "no"))


def answering(*messages: wire.ServerMessage) -> Say:
    """Answer whatever comes with these."""

    def say(server: FakeServer, message: wire.ClientMessage | None) -> None:
        if message is not None:
            for answer in messages:
                server.send(answer)

    return say


def greeting(data: bytes) -> Say:
    """Send these bytes to whoever connects."""

    def say(server: FakeServer, message: wire.ClientMessage | None) -> None:
        if message is None:
            server.transport.write(data)

    return say


def silent(server: FakeServer, message: wire.ClientMessage | None) -> None:
    """Say nothing."""
