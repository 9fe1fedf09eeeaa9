"""Who may connect, how many, and how fast."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from wow.clients import Clients
from wow.errors import Busy, RateLimited
from wow.pow.token import UNBOUND


class Guard:
    """
    Admits connections up to a number, and requests up to a rate a client.

    The rate is a token bucket's: C{burst} requests at once, refilled at
    C{rate} a second.

    @ivar connections: how many are admitted now.
    """

    def __init__(
        self,
        max_connections: int,
        rate: float,
        burst: int,
        clients: Clients,
        clock: IReactorTime,
    ) -> None:
        self._max_connections = max_connections
        self._rate = rate
        self._burst = burst
        self._clients = clients
        self._clock = clock
        self.connections = 0

    def admit(self) -> None:
        """
        Count a new connection; L{release} it when it is lost.

        @raise Busy: if there are too many. It is then not counted.
        """
        if self.connections >= self._max_connections:
            raise Busy(retry_after=1)
        self.connections += 1

    def release(self) -> None:
        """An admitted connection was lost."""
        self.connections -= 1

    def charge(self, prefix: bytes) -> None:
        """
        Count a request of a client's. One without an address cannot be told
        from others like it, and is let through.

        @raise RateLimited: if the client is over its rate. The request is then
            not counted, and C{retry_after} says when one will be taken.
        """
        if prefix == UNBOUND:
            return
        now = self._clock.seconds()
        client = self._clients.get(prefix, self._burst, now)
        # A clock that was set back refills nothing and takes nothing away.
        elapsed = max(0.0, now - client.seen)
        client.allowance = min(self._burst, client.allowance + elapsed * self._rate)
        client.seen = now
        if client.allowance < 1:
            raise RateLimited(retry_after=round((1 - client.allowance) / self._rate, 3))
        client.allowance -= 1
