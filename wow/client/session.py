"""One connection to a server, and what is asked over it."""

from __future__ import annotations

from typing import NoReturn, TypeVar

from attrs import field, frozen
from attrs.validators import ge, gt
from msgspec import UNSET
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from wow import wire
from wow.client.link import Link, ProtocolError
from wow.errors import Expired
from wow.pow.search import Progress, Puzzle
from wow.pow.solver import ISolver, silently

_T = TypeVar("_T")


class TooExpensive(Exception):
    """
    The server asks for more work than the client is ready to do.

    @ivar effort: what it asks for, in expected hashes.
    @ivar limit: what was allowed.
    """

    def __init__(self, effort: int, limit: int) -> None:
        self.effort = effort
        self.limit = limit
        super().__init__(f"the server asks for {effort} hashes, the limit is {limit}")


@frozen
class Limits:
    """
    What a client puts up with.

    @ivar max_effort: the most expected hashes for one resource.
    @ivar timeout: the most seconds for connecting, and again for each resource.
    """

    max_effort: int = field(default=2**26, validator=ge(1))
    timeout: float = field(default=120.0, validator=gt(0))


_USUAL = Limits()


def connect(
    endpoint: IStreamClientEndpoint,
    solver: ISolver,
    clock: IReactorTime,
    limits: Limits = _USUAL,
) -> Deferred[Session]:
    """
    Connect to a server, to ask it for one thing or for several.

    @param endpoint: where it is, over TLS or not.
    @param solver: does the work. It stays the caller's, to use again and to close.
    @return: a Deferred that fires when the connection is up. It fails with
        L{twisted.internet.defer.TimeoutError} after the time allowed, or as the endpoint's
        C{connect} does.
    """
    link = Link()
    connecting: Deferred[Link] = connectProtocol(endpoint, link)
    _limit_time(connecting, limits.timeout, clock, "no connection")
    return connecting.addCallback(lambda _: Session(link, solver, clock, limits))


def ask(
    endpoint: IStreamClientEndpoint,
    solver: ISolver,
    clock: IReactorTime,
    resource: str = "quote",
    progress: Progress = silently,
    limits: Limits = _USUAL,
    traceparent: str | None = None,
) -> Deferred[wire.Quote]:
    """
    Ask for one thing, on a connection of its own: L{connect}, L{Session.ask}, L{Session.close}.

    @return: a Deferred that fires when the connection is closed again.
    """

    async def converse() -> wire.Quote:
        session = await connect(endpoint, solver, clock, limits)
        try:
            return await session.ask(resource, progress, traceparent)
        finally:
            await session.close()

    return Deferred.fromCoroutine(converse())


class Session:
    """A connection to a server, made by L{connect}."""

    def __init__(self, link: Link, solver: ISolver, clock: IReactorTime, limits: Limits) -> None:
        self._link = link
        self._solver = solver
        self._clock = clock
        self._limits = limits
        self._asking = False

    def ask(
        self,
        resource: str = "quote",
        progress: Progress = silently,
        traceparent: str | None = None,
    ) -> Deferred[wire.Quote]:
        """
        Ask for a resource and work for it. One at a time; any number in sequence.

        Cancelling the Deferred, or losing the connection, stops the work at
        once. The connection outlives a failure only if that is a refusal that
        keeps it (L{wow.errors.Refused.closes}), L{TooExpensive} or C{SolverFailed}.

        @param progress: called as the work goes on.
        @param traceparent: the trace context that this is a part of, as W3C's
            Trace Context writes it. Servers older than it refuse a request with one.
        @return: a Deferred that fires with what the server gave. It fails with

            - a L{wow.errors.Refused}, its class by the server's code;
            - L{TooExpensive};
            - L{ProtocolError};
            - a L{twisted.internet.error.ConnectionClosed} if the connection ends first;
            - L{twisted.internet.defer.TimeoutError} after the time allowed;
            - L{wow.pow.search.SolverFailed};
            - C{RuntimeError} if the last question was not answered yet.
        """
        if self._asking:
            return defer.fail(RuntimeError("one at a time: the last question is still out"))
        request = wire.Request(resource, UNSET if traceparent is None else traceparent)
        asked = Deferred.fromCoroutine(self._converse(request, progress))
        return _limit_time(asked, self._limits.timeout, self._clock, "no answer")

    def close(self) -> Deferred[None]:
        """
        Close the connection. What is being asked for fails with C{ConnectionDone}.

        @return: a Deferred that fires when it is closed, after a second at most.
        """
        return self._link.close(self._clock)

    async def _converse(self, request: wire.Request, progress: Progress) -> wire.Quote:
        self._asking = True
        try:
            return await self._exchange(request, progress)
        finally:
            self._asking = False

    async def _exchange(self, request: wire.Request, progress: Progress) -> wire.Quote:
        challenge = await self._link.exchange(request, wire.Challenge)
        puzzle = self._puzzle(challenge)
        solving = self._solver.solve(puzzle, progress)
        solving.addTimeout(challenge.expires_in, self._clock, _too_slow)
        nonces = await self._link.while_connected(solving)
        solution = wire.Solution(challenge.challenge, nonces)
        return await self._link.exchange(solution, wire.Quote)

    def _puzzle(self, challenge: wire.Challenge) -> Puzzle:
        puzzle = Puzzle(challenge.challenge, challenge.rounds, challenge.round_effort)
        if challenge.algorithm != "sha256":
            self._refuse(f"it asks for {challenge.algorithm[:32]!r}, and sha256 is all there is")
        if challenge.target != f"{puzzle.target:016x}":
            self._refuse("the target of its challenge is not that of the round_effort")
        if challenge.expires_in <= 0:
            self._refuse("its challenge has no time left")
        if puzzle.effort > self._limits.max_effort:
            raise TooExpensive(puzzle.effort, self._limits.max_effort)
        return puzzle

    def _refuse(self, why: str) -> NoReturn:
        violation = ProtocolError(why)
        self._link.end(violation)
        raise violation


def _too_slow(result: object, seconds: float) -> NoReturn:
    raise Expired(f"The challenge was not solved in the {seconds:g} seconds that it was good for.")


def _limit_time(work: Deferred[_T], seconds: float, clock: IReactorTime, what: str) -> Deferred[_T]:
    def expire(result: object, seconds: float) -> NoReturn:
        raise defer.TimeoutError(f"{what} within {seconds:g} seconds")

    return work.addTimeout(seconds, clock, expire)
