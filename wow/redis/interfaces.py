"""What is asked of connections, so that tests can do without a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from wow.redis.script import Script


class IConnection(Protocol):
    """
    A connection that is ready.

    @ivar about: what the server said of itself, by field of C{INFO}.
    """

    about: dict[str, str]

    @property
    def in_flight(self) -> int:
        """Commands whose answers are awaited."""

    def run(self, script: Script, keys: Sequence[bytes], *args: object) -> Deferred[Any]:
        """
        Run a script.

        @return: a Deferred that fires with what it returns. It fails with
            L{wow.redis.errors.Declined} if the server does not run it, and
            with L{wow.redis.errors.Late} or L{wow.redis.errors.Lost} if it is
            not known whether it did.
        """


class IPool(Protocol):
    """
    Connections to one server, made again whenever they end.

    @ivar failure: why the last one ended or was not made, or None.
    """

    failure: str | None

    def start(
        self, greet: Callable[[Any], Awaitable[object]], changed: Callable[[], object]
    ) -> None:
        """
        Make the connections, for as long as there is no L{stop}.

        @param greet: what to do with each before it is of use; if that fails,
            it is made anew.
        @param changed: is called when there is one more or less, or when
            another has failed.
        """

    def stop(self) -> Deferred[None]:
        """
        End all connections, whatever is under way.

        @return: a Deferred that fires when they have ended.
        """

    def pick(self) -> IConnection | None:
        """The connection with the least to do, or None if there is none."""

    def keep(self, wanted: Callable[[Any], bool]) -> None:
        """End the connections that are ready and not wanted."""

    def __len__(self) -> int: ...
