"""
The body of an HTTP answer, taken with caution.

treq by itself inflates without limit, and leaves the connection open when it
stops listening. Here every way of refusing an answer closes the connection.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from wow.http.errors import HttpFailed


@implementer(IAgent)
class Unencoded:
    """
    An agent that asks for answers as they are, and refuses compressed ones.

    It sits beneath treq, which would inflate them before anyone can count.
    """

    def __init__(self, agent: IAgent) -> None:
        self._agent = agent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """
        As L{IAgent.request}.

        @return: a Deferred that also fails with L{HttpFailed} if the answer
            has a content encoding.
        """
        plain = Headers() if headers is None else headers.copy()
        plain.setRawHeaders(b"Accept-Encoding", [b"identity"])
        return self._agent.request(method, uri, plain, bodyProducer).addCallback(_refuse_encoded)


def _refuse_encoded(response: IResponse) -> IResponse:
    if response.headers.hasHeader(b"Content-Encoding"):
        hang_up(response)
        raise HttpFailed("the answer is compressed, which was not asked for")
    return response


def hang_up(response: IResponse) -> None:
    """Close the connection of an answer whose body nobody reads."""
    nobody = Protocol()
    response.deliverBody(nobody)
    _close(nobody.transport)


def read_body(response: IResponse, max_bytes: int) -> Deferred[bytes]:
    """
    Read a body to its end.

    @return: a Deferred that fires with the body; fails with L{HttpFailed} if
        it is longer than C{max_bytes}, and with Twisted's own errors if the
        connection breaks. Cancelling it closes the connection.
    """
    body = _Body(max_bytes)
    response.deliverBody(body)
    return body.whole


def _close(transport: ITransport | None) -> None:
    # Not loseConnection(), which over TLS waits for the peer to agree, and so
    # for ever if it does not.
    cast(IPushProducer, transport).stopProducing()


class _Body(Protocol):
    def __init__(self, max_bytes: int) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: _close(self.transport))
        self._max_bytes = max_bytes
        self._received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        if self.whole.called:
            return
        if len(self._received) + len(data) > self._max_bytes:
            _close(self.transport)
            self.whole.errback(HttpFailed(f"the answer is longer than {self._max_bytes} bytes"))
            return
        self._received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        # PotentialDataLoss: a body that ends with the connection, as HTTP
        # allows. Whether it is whole shows when its JSON is read.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(bytes(self._received))
        else:
            self.whole.errback(reason)
