"""The seam between the gate and what is behind it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Interface


class IProtectedResource(Interface):
    """What a client pays for."""

    def prepare(client: bytes) -> Any | Deferred[Any]:
        """
        Have the resource ready for one client, before its proof is spent.

        @param client: the client's packed address prefix, as the token is bound to it.
        @return: the message to send, if it is at hand, or a Deferred that fires with it.
        @raise wow.errors.Unavailable: if there is none, or by the Deferred;
            the proof is then not spent.
        """
