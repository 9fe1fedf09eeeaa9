"""
Proof of work as a service: make a challenge, redeem its solution.

Nothing is kept of a challenge until it is redeemed. A solution is checked
cheapest first, every check must pass, and only then is the token spent and
the resource handed out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wow import errors
from wow.metrics import Tally
from wow.pow.keys import KeyRing
from wow.pow.pricing import Price, Pricing
from wow.pow.random_ids import RandomIds
from wow.pow.resource import IProtectedResource
from wow.pow.spent import ISpentStore
from wow.pow.token import UNBOUND, Token, open_sealed, seal
from wow.pow.work import check, target
from wow.spread import Milliseconds


class Issued(NamedTuple):
    """
    A challenge as it was made.

    @ivar text: the token that travels.
    @ivar expires_in: seconds.
    """

    text: str
    price: Price
    expires_in: float


class ProofOfWork:
    """
    Makes challenges and redeems their solutions.

    @ivar keys: may be replaced while the server runs.
    """

    def __init__(
        self,
        *,
        keys: KeyRing,
        pricing: Pricing,
        ttl_ms: int,
        skew_ms: int,
        bind_clients: bool,
        spent: ISpentStore,
        resources: Mapping[str, IProtectedResource],
        now_ms: Callable[[], int],
        effort_asked: Tally,
        effort_paid: Tally,
        challenges: Sequence[Tally],
        solve_time: Milliseconds,
    ) -> None:
        """
        @param ttl_ms: how long a challenge lives.
        @param skew_ms: how far the clocks of the servers that share a key may
            differ; a challenge is accepted for that much longer.
        @param bind_clients: whether a challenge is good only for the client
            that it was made for.
        @param resources: what is behind the gate, by name.
        @param now_ms: the wall clock, milliseconds since the Unix epoch.
        @param challenges: counts those made, by how many times their price was doubled.
        @param solve_time: from a challenge made to its solution, for those redeemed.
        """
        self.keys = keys
        self._pricing = pricing
        self._ttl_ms = ttl_ms
        self._expires_in = ttl_ms / 1000
        self._skew_ms = skew_ms
        self._bind_clients = bind_clients
        self._spent = spent
        self._resources = resources
        self._now_ms = now_ms
        self._effort_asked = effort_asked
        self._effort_paid = effort_paid
        self._challenges = challenges
        self._solve_time = solve_time
        self._ids = RandomIds()

    def watched(
        self,
        watch_resource: Callable[[IProtectedResource], IProtectedResource],
        watch_spent: Callable[[ISpentStore], ISpentStore],
    ) -> ProofOfWork:
        """
        The same service, but for others in the places of its resources and its store.

        @param watch_resource: gives what takes the place of a resource.
        @param watch_spent: gives what takes the place of the store.
        """
        twin = copy(self)
        twin._resources = {name: watch_resource(each) for name, each in self._resources.items()}
        twin._spent = watch_spent(self._spent)
        return twin

    def issue(self, client: bytes, resource: str, level: int = 0) -> Issued:
        """
        Make a challenge.

        @param client: whom it is for: the address prefix from L{wow.pow.token.bind}.
        @param level: how many times the price is doubled for this client.
        @raise errors.UnknownResource: if there is no such resource.
        """
        if resource not in self._resources:
            raise errors.UnknownResource
        price = self._pricing.price(level)
        token = Token(price.rounds, price.round_effort, self._expiry_ms(), self._ids(), resource)
        text = seal(token, self.keys, client if self._bind_clients else UNBOUND)
        self._effort_asked.count += price.effort
        self._challenges[level].count += 1
        return Issued(text, price, self._expires_in)

    def _expiry_ms(self) -> int:
        # Above the mark even when the clock was set back, so that a store
        # that remembers a later time does not refuse every new token.
        expiry_ms, mark = self._now_ms() + self._ttl_ms, self._spent.mark
        return expiry_ms if expiry_ms > mark else mark + 1

    def redeem(self, client: bytes, text: str, nonces: Sequence[int]) -> Any | Deferred[Any]:
        """
        Check a solution and spend its token.

        @param client: who hands it in.
        @param text: the token as it travelled.
        @return: the resource's message, once the token is spent; or, where the
            resource or the store takes its time, a Deferred that fires with
            it. That may fail with what is raised here.
        @raise errors.InvalidChallenge: if the token is not ours for this client.
        @raise errors.Expired: if its time is over.
        @raise errors.InsufficientWork: if a round is not solved.
        @raise errors.UnknownResource: if there is no such resource any more.
        @raise errors.Unavailable: if the resource or the store is; the token is not spent.
        @raise errors.Replayed: if the token was spent before.
        """
        token = open_sealed(text, self.keys, client if self._bind_clients else UNBOUND)
        now_ms = self._now_ms()
        if now_ms > token.expiry_ms + self._skew_ms:
            raise errors.Expired
        if len(nonces) != token.rounds or not check(text, nonces, target(token.round_effort)):
            raise errors.InsufficientWork
        resource = self._resources.get(token.resource)
        if resource is None:
            raise _at("resource", errors.UnknownResource())
        message = resource.prepare(client)
        if isinstance(message, Deferred):
            return message.addCallback(self._spend, token, now_ms)
        return self._spend(message, token, now_ms)

    def _spend(self, message: Any, token: Token, now_ms: int) -> Any:
        try:
            first = self._spent.spend(token.expiry_ms, token.random_id)
        except errors.Refused as refused:
            _at("spend", refused)
            raise
        if isinstance(first, Deferred):
            handed_out = (message, token, now_ms)
            return first.addCallbacks(self._hand_out, _not_spent, callbackArgs=handed_out)
        return self._hand_out(first, message, token, now_ms)

    def _hand_out(self, first: bool, message: Any, token: Token, now_ms: int) -> Any:
        if first is not True:
            raise errors.Replayed
        effort = token.rounds * token.round_effort
        self._effort_paid.count += effort
        self._pricing.paid(effort)
        took = now_ms + self._ttl_ms - token.expiry_ms
        # Less than nothing, where clocks differ or were set, says nothing.
        if took >= 0:
            self._solve_time.count(took)
        return message


def _not_spent(failure: Failure) -> Failure:
    if isinstance(failure.value, errors.Refused):
        _at("spend", failure.value)
    return failure


def _at(stage: errors.Stage, refused: errors.Refused) -> errors.Refused:
    refused.stage = stage
    return refused
