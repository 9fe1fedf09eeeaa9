"""
Who may connect, how many, and how fast.

What holds for a client holds for its network too, so many times over: a
rented range is then one neighbour among others.
"""

from __future__ import annotations

from collections.abc import Container
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


@frozen
class Scope:
    """
    What an allowance is for: each client, or each network.

    @ivar table: what is known of them.
    @ivar key_bytes: how long the keys of the table are, by the length of the
        prefixes, whose beginnings they are.
    """

    allowance: Allowance
    table: Clients
    key_bytes: dict[int, int]


class Standing:
    """What is known of one client, or one network, in its scope."""

    __slots__ = ("_allowance", "_key", "_table", "known")

    def __init__(self, scope: Scope, prefix: bytes) -> None:
        self._allowance = scope.allowance
        self._table = scope.table
        self._key = prefix[: scope.key_bytes[len(prefix)]]
        self.known = self._table.find(self._key)

    def check(self, now: float, spotless: bool) -> None:
        """
        @param spotless: whether whoever connects is without a failure, so that
            others' do not count.
        @raise TurnedAway: if it may not connect now.
        """
        known, allowance = self.known, self._allowance
        if known.connections >= allowance.connections:
            raise TurnedAway("connections", 1)
        # A time that has passed says nothing, and is not worth a look.
        if not spotless and (wait := allowance.failing.wait(known.failed, now)) > 0:
            raise TurnedAway("failures", wait)
        if known.connected > now and (wait := allowance.connecting.wait(known.connected, now)) > 0:
            raise TurnedAway("connection_rate", wait)

    def enter(self, now: float) -> None:
        """It connects."""
        self._table.connect(self._key, self.known)
        self.known.connected = self._allowance.connecting.take(self.known.connected, now)

    def leave(self) -> None:
        """It has one connection less."""
        self._table.disconnect(self._key, self.known)

    def wait_to_ask(self, now: float) -> float:
        """Seconds until it may ask for a challenge."""
        due = self.known.asked
        return self._allowance.asking.wait(due, now) if due > now else 0.0

    def ask(self, now: float) -> None:
        """It asks for a challenge."""
        self.known.asked = self._allowance.asking.take(self.known.asked, now)

    def fail(self, now: float) -> bool:
        """It failed; say whether it had done so too often before."""
        known, failing = self.known, self._allowance.failing
        too_often = failing.wait(known.failed, now) > 0
        known.failed = failing.take(known.failed, now)
        return too_often


class Visitor:
    """
    Whose connection one is. Nothing limits one without a standing: its
    address is allowed whatever it does, or it has none.

    @ivar address: packed; empty where there is none.
    @ivar standings: the client's own, and then its network's.
    @ivar client: what is known of the client.
    """

    __slots__ = ("address", "client", "standings")

    def __init__(self, address: bytes, standings: tuple[Standing, ...] = ()) -> None:
        self.address = address
        self.standings = standings
        self.client: Client | None = standings[0].known if standings else None


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
        standings = tuple([Standing(scope, prefix) for scope in self._scopes])
        spotless = not standings or standings[0].known.failed <= now
        for standing in standings:
            standing.check(now, spotless)
        for standing in standings:
            standing.enter(now)
        return Visitor(address, standings)

    def leave(self, visitor: Visitor) -> None:
        """The connection of somebody admitted was lost."""
        for standing in visitor.standings:
            standing.leave()

    def ask(self, visitor: Visitor, now: float) -> int:
        """
        Somebody asks for a challenge.

        @return: how many times the price is doubled for them.
        @raise RateLimited: if they are over their rate. The request then does
            not count, and C{retry_after} says when one will be taken.
        """
        refusal: type[RateLimited] = RateLimited
        for standing in visitor.standings:
            if (wait := standing.wait_to_ask(now)) > 0:
                raise refusal(retry_after=round(wait, 3))
            refusal = NetworkLimited
        for standing in visitor.standings:
            standing.ask(now)
        client = visitor.client
        return 0 if client is None else conduct.suspect(client, now)

    def redeemed(self, visitor: Visitor, now: float) -> None:
        """Somebody redeemed a challenge."""
        if visitor.client is not None:
            conduct.trust(visitor.client, now)

    def failed(self, visitor: Visitor, now: float) -> bool:
        """
        Somebody did what no client in order does.

        @return: whether that is more than they may, and so not worth an answer.
        """
        if visitor.client is not None:
            conduct.suspect(visitor.client, now)
        too_often = [standing.fail(now) for standing in visitor.standings]
        return any(too_often)
