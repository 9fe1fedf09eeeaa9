"""
What was redeemed, so that no proof is redeemed twice.

A store may forget what has expired. It then moves up its I{mark}: the expiry
at or below which every token counts as expired. A store that starts empty
sets the mark to now + ttl. So neither a lost store nor a clock that steps
back revives a spent token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface, implementer

from wow.errors import Expired, Unavailable

Token = tuple[int, bytes]
"""A token as stores know it: its expiry, in ms since the Unix epoch, and its random id."""


class CannotOpen(Exception):
    """A spent store cannot be used; the message says why."""


class Unreachable(Unavailable):
    """The store cannot be asked just now. If it was, it may have spent the token."""


class ISpentStore(Interface):
    """Remembers spent tokens at least until their expiry plus the allowed clock skew."""

    mark: int = Attribute("The mark last seen, in milliseconds since the Unix epoch.")
    trouble: str | None = Attribute("Why the store cannot be used just now, or None.")

    def open() -> None:
        """
        Make the store ready, or begin to; nothing else may be called before.
        While it is not ready it is in trouble, and spends nothing.

        @raise wow.pow.spent.CannotOpen: if it never will be.
        """

    def spend(expiry_ms: int, random_id: bytes) -> bool | Deferred[bool]:
        """
        Spend a token if it is unspent, in one atomic step.

        @return: True for the first caller only, over threads, processes and
            machines; or a Deferred that fires with that, and may fail with
            what is raised here.
        @raise wow.errors.Expired: at or below the mark.
        @raise wow.errors.Unavailable: if the store is full, broken or out of reach.
        """

    def purge(before_ms: int) -> bool | Deferred[bool]:
        """
        Forget a bounded number of the tokens that expired before a moment, and
        move up the mark. Called once a second, with nothing to forget too: a
        store in trouble sees by it whether it still is.

        @return: whether more are left, or a Deferred that fires with that.
        """

    def count() -> int:
        """How many tokens are remembered, about."""

    def status() -> Mapping[str, object]:
        """What an operator wants to see of it, fit for JSON."""

    def close() -> Deferred[None] | None:
        """
        Let go of what the store holds open. It is not used afterwards.

        @return: None, or a Deferred that fires when that is done.
        """


class ISharedSpentStore(ISpentStore):
    """A store that several machines share, and that may be out of reach."""

    reachable: bool = Attribute("Whether the store did what it was asked the last time.")

    def spend(expiry_ms: int, random_id: bytes) -> Deferred[bool]:
        """
        See L{ISpentStore.spend}.

        @raise Unreachable: if the store is not to be asked now; or by the
            Deferred, if the answer did not come.
        """

    def purge(before_ms: int) -> Deferred[bool]:
        """See L{ISpentStore.purge}."""

    def close() -> Deferred[None]:
        """See L{ISpentStore.close}."""

    def record(tokens: Sequence[Token]) -> Deferred[None]:
        """
        Note tokens that were spent while the store was out of reach.

        @return: a Deferred that fires when they are noted, or fails with L{Unreachable}.
        """


class ILocalSpentStore(ISpentStore):
    """A store that answers at once, and can tell what is in it."""

    def spend(expiry_ms: int, random_id: bytes) -> bool:
        """See L{ISpentStore.spend}."""

    def purge(before_ms: int) -> bool:
        """See L{ISpentStore.purge}."""

    def close() -> None:
        """See L{ISpentStore.close}."""

    def recall(after: Token, number: int) -> list[Token]:
        """
        The tokens that come next after one, in the order of their expiry.

        @raise CannotOpen: if the store cannot be read just now.
        """


@implementer(ILocalSpentStore)
class MemorySpentStore:
    """
    A store for tests: one process, forgotten at its end.

    @ivar mark: see L{ISpentStore}.
    @ivar trouble: see L{ISpentStore}.
    """

    mark = 0
    trouble: str | None = None

    def __init__(self, now_ms: Callable[[], int], ttl_ms: int) -> None:
        self._now_ms = now_ms
        self._ttl_ms = ttl_ms
        self._spent: set[Token] = set()

    def open(self) -> None:
        self.mark = self._now_ms() + self._ttl_ms

    def spend(self, expiry_ms: int, random_id: bytes) -> bool:
        if expiry_ms <= self.mark:
            raise Expired
        first = (expiry_ms, random_id) not in self._spent
        self._spent.add((expiry_ms, random_id))
        return first

    def purge(self, before_ms: int) -> bool:
        expired = {token for token in self._spent if token[0] < before_ms}
        self.mark = max([self.mark, *(expiry_ms for expiry_ms, _ in expired)])
        self._spent -= expired
        return False

    def recall(self, after: Token, number: int) -> list[Token]:
        return sorted(token for token in self._spent if token > after)[:number]

    def count(self) -> int:
        return len(self._spent)

    def status(self) -> Mapping[str, object]:
        return {"url": "memory:"}

    def close(self) -> None:
        self._spent.clear()
