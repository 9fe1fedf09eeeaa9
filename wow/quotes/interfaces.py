"""The seam between the pool of quotes and where they come from."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from wow.wire import Quote


class SourceFailed(Exception):
    """
    A source had no quotes to give.

    The message is a short reason for whoever runs the server. It never holds
    anything of the request, since that may carry an API key, nor anything of
    the answer, since that may repeat it.
    """


class IQuoteSource(Interface):
    """Where quotes come from."""

    name: str = Attribute("How the source is called in answers, logs and metrics.")

    def fetch() -> Deferred[list[Quote]]:
        """
        Ask for quotes, once.

        @return: a Deferred that fires with at least one quote, each with this
            source's name, or fails with L{SourceFailed}. Cancelling it ends
            the attempt.
        """
