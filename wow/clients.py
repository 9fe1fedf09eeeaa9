"""
The one bounded table of what is known of each client.

A client is an address prefix, packed as its tokens are bound. Who has a
connection is never forgotten, and there are only so many of those. Of the
rest, at the table's bound, the least interesting goes: the one of whom there
will be nothing to say soonest, among those not heard of for longest. So memory
does not grow with the number of strangers, and strangers do not wash out the
ill-behaved.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from attrs import define

_CANDIDATES = 4
"""How many are looked at to find one to forget."""


@define(eq=False)
class Client:
    """
    What is known of one client. A time that has passed says nothing.

    @ivar key: what it is called in its table.
    @ivar connections: open now.
    @ivar connected: when the connections that it made are paid off, in
        seconds; see L{wow.rate}.
    @ivar asked: the same, of the challenges that it asked for.
    @ivar failed: the same, of its failures.
    @ivar suspicion: see L{wow.conduct}; as it was at C{suspected}, in seconds.
    @ivar level: its price is doubled so many times.
    """

    key: bytes = b""
    connections: int = 0
    connected: float = 0.0
    asked: float = 0.0
    failed: float = 0.0
    suspicion: float = 0.0
    suspected: float = 0.0
    level: int = 0

    @property
    def interest(self) -> float:
        """When there will be nothing to say of it, in seconds."""
        # A second takes a point of suspicion, and with it goes the level.
        trusted = self.suspected + self.suspicion
        return max(self.connected, self.asked, self.failed, trusted)


class Clients:
    """A table of clients with a bound on its size."""

    def __init__(self, max_clients: int) -> None:
        """
        @param max_clients: that are remembered beside those with connections.
        """
        self._max_clients = max_clients
        self._connected: dict[bytes, Client] = {}
        self._absent: OrderedDict[bytes, Client] = OrderedDict()

    def __len__(self) -> int:
        return len(self._connected) + len(self._absent)

    def find(self, key: bytes) -> Client:
        """What is known of a client: of a new one, nothing. It is remembered once it connects."""
        return self._connected.get(key) or self._absent.get(key) or Client(key)

    def connect(self, client: Client) -> None:
        """A client that was L{find}-ed has one more connection."""
        if not client.connections:
            self._absent.pop(client.key, None)
            self._connected[client.key] = client
        client.connections += 1

    def disconnect(self, client: Client) -> None:
        """It has one less."""
        client.connections -= 1
        if not client.connections:
            del self._connected[client.key]
            self._absent[client.key] = client
            if len(self._absent) > self._max_clients:
                self._forget()

    def _forget(self) -> None:
        oldest = list(islice(self._absent.items(), _CANDIDATES))
        dullest = min(oldest, key=lambda entry: entry[1].interest)[0]
        for prefix, _ in oldest:
            # The others are looked at again when their turn comes once more.
            self._absent.move_to_end(prefix)
        del self._absent[dullest]
