"""Asks HTTP APIs, within bounds."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any, cast

from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from wow.http.body import Unencoded, hang_up, read_body
from wow.http.errors import HttpFailed, describe

_OK = 200


class Client:
    """Makes requests, each of them once. No redirect is followed, no cookie kept."""

    def __init__(self, agent: IAgent, clock: IReactorTime, timeout: float, max_bytes: int) -> None:
        """
        @param agent: makes the requests. It need not keep connections open.
        @param timeout: seconds for one request, from connecting to the last
            byte of the answer.
        @param max_bytes: of the longest body that is read.
        """
        self._client = HTTPClient(Unencoded(agent), _no_cookies())
        self._clock = clock
        self._timeout = timeout
        self._max_bytes = max_bytes

    def request(
        self, method: str, url: str, headers: Headers, body: bytes | None = None
    ) -> Deferred[bytes]:
        """
        Make a request.

        @return: a Deferred that fires with the body of the answer, or fails
            with L{HttpFailed}, after the time-out at the latest. Cancelling it
            closes the connection.
        """
        answer: Deferred[IResponse] = maybeDeferred(self._send, method, url, headers, body)
        content = answer.addCallback(self._read)
        content.addTimeout(self._timeout, self._clock, _too_slow)
        return content.addErrback(_explain)

    def _send(self, method: str, url: str, headers: Headers, body: bytes | None) -> Deferred[Any]:
        return self._client.request(
            method,
            url,
            headers=headers.copy(),
            data=None if body is None else Bytes(body),
            allow_redirects=False,
            unbuffered=True,
            # Or treq would import the global one.
            reactor=cast(Any, self._clock),
        )

    def _read(self, response: IResponse) -> Deferred[bytes]:
        if response.code != _OK:
            hang_up(response)
            raise HttpFailed(f"the API answered with status {response.code}")
        return read_body(response, self._max_bytes)


@implementer(IBodyProducer)
class Bytes:
    """A body that is at hand. treq's own would be sent by the global reactor."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """See L{IBodyProducer.startProducing}."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing is left to pause."""

    def resumeProducing(self) -> None:
        """Nothing is left to resume."""

    def stopProducing(self) -> None:
        """Nothing is left to stop."""


def _no_cookies() -> IndexableCookieJar:
    # A jar that took them would grow at the API's wish.
    return IndexableCookieJar(DefaultCookiePolicy(allowed_domains=()))


def _too_slow(result: Any, timeout: float) -> Any:
    # The answer may have come in the same turn.
    if isinstance(result, Failure):
        raise HttpFailed(f"no whole answer within {timeout:g} s") from None
    return result


def _explain(failure: Failure) -> Failure:
    # A fresh Failure: the old one holds the frames, and so the request.
    return Failure(HttpFailed(describe(failure)))
