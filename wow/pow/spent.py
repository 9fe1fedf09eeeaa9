"""
What was redeemed, so that no proof is redeemed twice.

A store may forget what has expired. It then moves up its I{mark}: the expiry
at or below which every token counts as expired. A store that starts empty
sets the mark to now + ttl. So neither a lost store nor a clock that steps
back revives a spent token.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface, implementer

from wow.errors import Expired


class CannotOpen(Exception):
    """A spent store cannot be used; the message says why."""


class ISpentStore(Interface):
    """Remembers spent tokens at least until their expiry plus the allowed clock skew."""

    mark: int = Attribute("The mark last seen, in milliseconds since the Unix epoch.")
    trouble: str | None = Attribute("Why the store cannot be used just now, or None.")

    def open() -> None:
        """
        Make the store ready; nothing else may be called before.

        @raise wow.pow.spent.CannotOpen: if that is not possible.
        """

    def spend(expiry_ms: int, random_id: bytes) -> bool | Deferred[bool]:
        """
        Spend a token if it is unspent, in one atomic step.

        @return: True for the first caller only, over threads, processes and
            machines; or a Deferred that fires with that, and may fail with
            what is raised here.
        @raise wow.errors.Expired: at or below the mark.
        @raise wow.errors.Unavailable: if the store is full or broken.
        """

    def purge(before_ms: int) -> bool:
        """
        Forget a bounded number of the tokens that expired before a moment, and
        move up the mark.

        @return: whether more are left.
        """

    def count() -> int:
        """How many tokens are remembered, about."""

    def close() -> None:
        """Let go of what the store holds open. It is not used afterwards."""


@implementer(ISpentStore)
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
        self._spent: set[tuple[int, bytes]] = set()

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

    def count(self) -> int:
        return len(self._spent)

    def close(self) -> None:
        self._spent.clear()
