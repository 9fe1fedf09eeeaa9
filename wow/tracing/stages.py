"""The resource and the store with somebody told before each is asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.components import proxyForInterface
from zope.interface import implementer

from wow.pow.resource import IProtectedResource
from wow.pow.service import ProofOfWork
from wow.pow.spent import ISpentStore

Enter = Callable[[str], object]
"""Is told the name of a stage that begins."""


def staged(proof_of_work: ProofOfWork, enter: Enter) -> ProofOfWork:
    """The same service, that tells of the stages of what it does."""
    return proof_of_work.watched(partial(_Resource, enter), partial(_Store, enter))


@implementer(IProtectedResource)
class _Resource:
    def __init__(self, enter: Enter, resource: IProtectedResource) -> None:
        self._enter = enter
        self._resource = resource

    def prepare(self, client: bytes) -> Any | Deferred[Any]:
        self._enter("prepare")
        return self._resource.prepare(client)


class _Store(proxyForInterface(ISpentStore)):  # type: ignore[misc]
    original: ISpentStore

    def __init__(self, enter: Enter, spent: ISpentStore) -> None:
        super().__init__(spent)
        self._enter = enter

    def spend(self, expiry_ms: int, random_id: bytes) -> bool | Deferred[bool]:
        self._enter("spend")
        return self.original.spend(expiry_ms, random_id)
