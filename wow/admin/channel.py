"""
Connections of the operators' site: what a stranger may take of them is
bounded, and an operator is let in all the same.
"""

from __future__ import annotations

from typing import Any, Literal

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from wow.proxy.waiting import WaitingRoom

STRANGERS = 64
"""
Connections of those who have not shown who they are. Who comes when there are
so many takes the place of the one that has waited for longest.
"""

WITHIN = 10.0
"""
Seconds that a connection may take to ask for something that is for operators
alone, and to show that it may. One who asks how the server is, as probes do,
has as long for all of it.
"""

_NO_BODY = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Channel(HTTPChannel):
    """A connection. No page of the site wants a body, and so none is read."""

    transport: Any

    def __init__(self, strangers: WaitingRoom) -> None:
        super().__init__()
        self._strangers = strangers

    def connectionMade(self) -> None:
        super().connectionMade()
        self._strangers.enter(self)

    def admit(self) -> None:
        """An operator has it."""
        self._strangers.leave(self)

    def give_up(self, reason: Literal["timeout", "crowded"]) -> None:
        """It is a stranger's, and in the way."""
        self.transport.abortConnection()

    def allHeadersReceived(self) -> None:
        # It is None where the length shows only at the end.
        if self.length == 0:
            super().allHeadersReceived()
        else:
            self.transport.write(_NO_BODY)
            self.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        """A body comes. It was refused."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._strangers.leave(self)
        super().connectionLost(reason)
