"""
Who may connect, how many, and how fast.

What holds for a client holds for its network too, so many times over: a
rented range is then one neighbour among others.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Literal, get_args

from attrs import frozen

from wow import conduct
from wow.clients import Client, Clients
from wow.errors import RateLimited
from wow.pow.token import UNBOUND
from wow.rate import Rate

Reason = Literal["denied", "connections", "connection_rate", "failures"]

REASONS: tuple[Reason, ...] = get_args(Reason)
"""Why a connection may be turned away."""


class NetworkLimited(RateLimited):
    """A client asked no more than it may; its neighbours did."""

    fault = False


class TurnedAway(Exception):
    """
    A connection is not admitted.

    @ivar reason: why, in a word or two.
    @ivar retry_after: seconds after which trying again makes sense.
    """

    def __init__(self, reason: Reason, retry_after: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


@frozen
class Allowance:
    """
    What one client, or one network, may do.

    @ivar connections: open at once.
    @ivar connecting: how fast it may make them.
    @ivar asking: how fast it may ask for challenges.
    @ivar failing: how fast it may fail before its connections are turned away.
    """

    connections: int
    connecting: Rate
    asking: Rate
    failing: Rate


class Scope:
    """What holds for each client, or for each network: an allowance, and a table of them."""

    def __init__(self, allowance: Allowance, table: Clients, key_bytes: dict[int, int]) -> None:
        """
        @param key_bytes: how long the keys of the table are, by the length of
            the prefixes, whose beginnings they are.
        """
        self.allow(allowance)
        self._table = table
        self._key_bytes = key_bytes

    def allow(self, allowance: Allowance) -> None:
        """Allow something else from now on. What is known of each stays known."""
        self._most = allowance.connections
        self._connecting = allowance.connecting
        self._asking = allowance.asking
        self._failing = allowance.failing

    def find(self, prefix: bytes) -> Client:
        """What is known of whoever has an address with this prefix."""
        return self._table.find(prefix[: self._key_bytes[len(prefix)]])

    def check(self, known: Client, now: float, spotless: bool) -> None:
        """
        @param spotless: whether whoever connects is without a failure, so that
            others' do not count.
        @raise TurnedAway: if it may not connect now.
        """
        if known.connections >= self._most:
            raise TurnedAway("connections", 1)
        # A time that has passed says nothing, and is not worth a look.
        if not spotless and (wait := self._failing.wait(known.failed, now)) > 0:
            raise TurnedAway("failures", wait)
        if known.connected > now and (wait := self._connecting.wait(known.connected, now)) > 0:
            raise TurnedAway("connection_rate", wait)

    def enter(self, known: Client, now: float) -> None:
        """It connects."""
        self._table.connect(known)
        known.connected = self._connecting.take(known.connected, now)

    def leave(self, known: Client) -> None:
        """It has one connection less."""
        self._table.disconnect(known)

    def wait_to_ask(self, known: Client, now: float) -> float:
        """Seconds until it may ask for a challenge."""
        return self._asking.wait(known.asked, now) if known.asked > now else 0.0

    def ask(self, known: Client, now: float) -> None:
        """It asks for a challenge."""
        known.asked = self._asking.take(known.asked, now)

    def fail(self, known: Client, now: float) -> bool:
        """It failed; say whether it had done so too often before."""
        too_often = self._failing.wait(known.failed, now) > 0
        known.failed = self._failing.take(known.failed, now)
        return too_often


class Visitor:
    """
    Whose connection one is. Nothing limits one of whom nothing is known: its
    address is allowed whatever it does, or it has none.

    @ivar address: packed; empty where there is none.
    @ivar known: what is known of the client, and then of its network, each in its scope.
    """

    __slots__ = ("address", "known")

    def __init__(self, address: bytes, known: tuple[tuple[Scope, Client], ...] = ()) -> None:
        self.address = address
        self.known = known


@frozen
class Lists:
    """
    Addresses, packed, that an operator has made up his mind about.

    @ivar allow: no limit of a client's holds for these, whatever C{deny} says.
    @ivar deny: these are not served.
    """

    allow: Container[bytes]
    deny: Container[bytes]

    def denies(self, address: bytes) -> bool:
        """Whether an address is not served."""
        return address in self.deny and address not in self.allow


class Guard:
    """
    Admits connections and requests within what each client may do. The time
    is handed in: seconds of a clock that is never set.

    @ivar lists: may be replaced while the server runs.
    """

    def __init__(self, lists: Lists, scopes: tuple[Scope, ...]) -> None:
        """
        @param scopes: of clients, and then of networks if these have limits.
        """
        self.lists = lists
        self._scopes = scopes

    def allow(self, allowances: Iterable[Allowance]) -> None:
        """Allow something else from now on, in the order of the scopes."""
        for scope, allowance in zip(self._scopes, allowances, strict=True):
            scope.allow(allowance)

    def admit(self, address: bytes, prefix: bytes, now: float) -> Visitor:
        """
        Let somebody in; they L{leave} when their connection is lost.

        @param address: packed; empty where there is none.
        @param prefix: of the client that it belongs to, as tokens are bound.
        @raise TurnedAway: if not.
        """
        if self.lists.denies(address):
            raise TurnedAway("denied", 0)
        if prefix == UNBOUND or address in self.lists.allow:
            return Visitor(address)
        known = tuple([(scope, scope.find(prefix)) for scope in self._scopes])
        spotless = not known or known[0][1].failed <= now
        for scope, each in known:
            scope.check(each, now, spotless)
        for scope, each in known:
            scope.enter(each, now)
        return Visitor(address, known)

    def leave(self, visitor: Visitor) -> None:
        """The connection of somebody admitted was lost."""
        for scope, known in visitor.known:
            scope.leave(known)

    def ask(self, visitor: Visitor, now: float) -> int:
        """
        Somebody asks for a challenge.

        @return: how many times the price is doubled for them.
        @raise RateLimited: if they are over their rate. The request then does
            not count, and C{retry_after} says when one will be taken.
        """
        refusal: type[RateLimited] = RateLimited
        for scope, known in visitor.known:
            if (wait := scope.wait_to_ask(known, now)) > 0:
                raise refusal(retry_after=round(wait, 3))
            refusal = NetworkLimited
        for scope, known in visitor.known:
            scope.ask(known, now)
        return conduct.suspect(visitor.known[0][1], now) if visitor.known else 0

    def redeemed(self, visitor: Visitor, now: float) -> None:
        """Somebody redeemed a challenge."""
        if visitor.known:
            conduct.trust(visitor.known[0][1], now)

    def failed(self, visitor: Visitor, now: float) -> bool:
        """
        Somebody did what no client in order does.

        @return: whether that is more than they may, and so not worth an answer.
        """
        if visitor.known:
            conduct.suspect(visitor.known[0][1], now)
        too_often = [scope.fail(known, now) for scope, known in visitor.known]
        return any(too_often)
