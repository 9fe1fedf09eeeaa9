"""
C{wow quote}: from the words on the command line to a quote on standard output.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, clientFromString
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from wow.cli.exits import Exit, complain, printable, put
from wow.cli.failures import explain
from wow.client import Limits, Session, connect
from wow.pow.solver import ISolver
from wow.wire import Quote

_SHORTHAND = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^:\[\]/=]+):(?P<port>[0-9]{1,9})")
_KINDS = ("tcp", "tls", "ssl", "unix")


def parse_endpoint(reactor: Any, text: str) -> IStreamClientEndpoint:
    """
    Where to connect: C{HOST:PORT}, or any of Twisted's client endpoint strings.

    @raise ValueError: if it is neither. The message says what would be.
    """
    short = _SHORTHAND.fullmatch(text)
    if short and short["host"].lower() not in _KINDS:
        if not 0 < int(short["port"]) < 65536:
            raise ValueError(f"{text} has no such port: there are 1 to 65535")
        return HostnameEndpoint(reactor, short["host"].strip("[]"), int(short["port"]))
    try:
        endpoint: IStreamClientEndpoint = clientFromString(reactor, text)
    except Exception:  # A plugin's parser may raise anything, and most do.
        if short and short["host"].lower() != "unix":
            kind, port = short.groups()
            why = f"{text} says where a server listens; say where it is: {kind}:HOST:{port}"
        else:
            why = f"{text} is no place to connect to; say HOST:PORT, tls:HOST:PORT or unix:/PATH"
        raise ValueError(why) from None
    return endpoint


def render(quote: Quote) -> str:
    """A quote as one line, safe to show."""
    author = printable(quote.author)
    return f"{printable(quote.text)} \N{EM DASH} {author}" if author else printable(quote.text)


def render_json(quote: Quote) -> str:
    """A quote as one line of JSON, in ASCII."""
    return json.dumps({"text": quote.text, "author": quote.author, "source": quote.source})


@frozen
class Asking:
    """
    Asks for quotes, one after the other, and puts them out.

    @ivar count: how many.
    @ivar render: makes a line of a quote.
    @ivar traceparent: the trace context that all of it is a part of.
    """

    endpoint: IStreamClientEndpoint
    solver: ISolver
    clock: IReactorTime
    limits: Limits
    count: int
    render: Callable[[Quote], str]
    traceparent: str | None = None

    async def run(self) -> None:
        """
        Ask. The solver is closed at the end.

        @raise Exception: as L{connect} and L{Session.ask} do, and C{OSError}
            if a quote cannot be put out.
        """
        try:
            session = await connect(self.endpoint, self.solver, self.clock, self.limits)
            try:
                await self._converse(session)
            finally:
                await session.close()
        finally:
            await self.solver.close()

    async def _converse(self, session: Session) -> None:
        for _ in range(self.count):
            put(self.render(await session.ask(traceparent=self.traceparent)))


def run(reactor: Any, work: Callable[[], Coroutine[Any, Any, None]], place: str) -> int:
    """
    Run the reactor until work is done, or cancelled by SIGINT or SIGTERM.

    @param reactor: one of Twisted's own, not running yet.
    @param place: the server's endpoint, for what there may be to complain about.
    @return: the exit code.
    @raise Exception: what the work raised, if it is nothing that should happen.
    """
    failures: list[Failure] = []
    signals: list[int] = []

    def start() -> None:
        working = Deferred.fromCoroutine(work())
        working.addErrback(failures.append)

        def interrupted(number: int, _: object) -> None:
            signals.append(number)
            reactor.callFromThread(working.cancel)

        # In place of Twisted's, which stop the reactor with the work half done.
        signal.signal(signal.SIGINT, interrupted)
        signal.signal(signal.SIGTERM, interrupted)
        working.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    if signals:
        return 128 + signals[0]
    return _report(failures[0], place) if failures else Exit.DONE


def _report(failure: Failure, place: str) -> int:
    explained = explain(failure.value, place)
    if explained is None:
        failure.raiseException()
    code, text = explained
    complain(text)
    return code
