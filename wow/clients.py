"""
The one bounded table of what is known of each client.

A client is an address prefix, packed as its tokens are bound. At its bound
the table forgets whom it has heard of the longest ago; so its memory does
not grow with the number of strangers.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define


@define
class Client:
    """
    What is known of one client.

    @ivar allowance: requests it may make at once: a token bucket's level.
    @ivar seen: when the level was last brought up to date, in seconds.
    """

    allowance: float
    seen: float


class Clients:
    """A table of clients with a bound on its size."""

    def __init__(self, max_clients: int) -> None:
        self._max_clients = max_clients
        self._table: OrderedDict[bytes, Client] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table)

    def get(self, prefix: bytes, allowance: float, now: float) -> Client:
        """
        The entry of a client, made if it is new.

        @param allowance: that of a new client.
        """
        client = self._table.get(prefix)
        if client is None:
            client = self._table[prefix] = Client(allowance, now)
            if len(self._table) > self._max_clients:
                self._table.popitem(last=False)
        else:
            self._table.move_to_end(prefix)
        return client
