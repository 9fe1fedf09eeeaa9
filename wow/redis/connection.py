"""
One connection to a Redis server, logged in and known to be of use.

txredisapi speaks the protocol. Its pool is not used: it queues without bound
while there is no connection, and gives up for good on the first login that
fails, be it because the server had too many clients just then.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import txredisapi
from attrs import field, frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from wow.redis.errors import Declined, Late, Lost, RedisFailed
from wow.redis.script import Script


@frozen
class Login:
    """
    What a connection begins with.

    @ivar user: who logs in, or None for the server's default user.
    @ivar password: or None, for a server that asks for none.
    @ivar database: its number.
    """

    user: str | None
    password: str | None = field(repr=False)
    database: int


class Connection(txredisapi.BaseRedisProtocol):  # type: ignore[misc]
    """
    A connection, from when it is made.

    @ivar about: what the server said of itself, by field of C{INFO}.
    """

    def __init__(
        self,
        login: Login,
        timeout: float,
        greet: Callable[[Connection], Awaitable[object]],
        ready: Callable[[Connection], object],
        ended: Callable[[Connection, str], object],
        clock: IReactorTime,
    ) -> None:
        """
        @param timeout: seconds for one command. Once one is late the connection
            is reset, since its answers could no longer be told apart.
        @param greet: what to do with the connection before it is of use. If
            that fails, the connection is closed.
        @param ready: is told when it is of use.
        @param ended: is told when it has ended, and why.
        """
        # Numbers are taken as the server sends them, and all else as bytes.
        super().__init__(charset=None, convertNumbers=False)
        self.callLater = clock.callLater
        self._clock = clock
        self._timeout = timeout
        self._asked: deque[float] = deque()
        self._timer: IDelayedCall | None = None
        self._late = False
        self._login = login
        self._greet = greet
        self._tell_ready = ready
        self._tell_ended = ended
        self._trouble: str | None = None
        self.about: dict[str, str] = {}

    @property
    def in_flight(self) -> int:
        """See L{wow.redis.interfaces.IConnection.in_flight}."""
        return len(self._asked)

    def run(self, script: Script, keys: Sequence[bytes], *args: object) -> Deferred[Any]:
        """See L{wow.redis.interfaces.IConnection.run}."""
        running: Deferred[Any] = maybeDeferred(self.evalsha, script.sha, keys, args)
        running.addErrback(self._run_unknown, script, keys, args)
        return running.addErrback(self._fail)

    def _run_unknown(
        self, failure: Failure, script: Script, keys: Sequence[bytes], args: Sequence[object]
    ) -> Deferred[Any]:
        failure.trap(txredisapi.ScriptDoesNotExist)
        sent: Deferred[Any] = self.eval(script.text, keys, args)
        return sent

    # Log in

    def connectionMade(self) -> None:
        opening = Deferred.fromCoroutine(self._open())
        opening.addErrback(self._fail).addCallbacks(self._opened, self._not_opened)

    async def _open(self) -> None:
        login = self._login
        if login.password is not None:
            await self.auth(login.password, login.user)
        if login.database:
            await self.select(login.database)
        self.about = _fields(await self.execute_command("INFO"))
        await self._greet(self)

    def _opened(self, _: object) -> None:
        self._tell_ready(self)

    def _not_opened(self, failure: Failure) -> None:
        # Of a connection that is lost, its transport knows better why.
        if not failure.check(Lost) or failure.check(Late):
            self._trouble = failure.getErrorMessage()
        self.transport.abortConnection()

    # Deadlines. One timer for all commands, where txredisapi has one for each
    # and lets it end a connection whose answer has come, and only could not be
    # read while this process was busy otherwise.

    def execute_command(self, *words: object, **options: object) -> Deferred[Any]:
        """Send a command. See L{txredisapi.BaseRedisProtocol.execute_command}."""
        asked: Deferred[Any] = super().execute_command(*words, **options)
        self._asked.append(self._clock.seconds())
        if self._timer is None:
            self._timer = self._clock.callLater(self._timeout, self._look)
        return asked

    def _look(self) -> None:
        self._timer = None
        if self._asked:
            left = self._asked[0] + self._timeout - self._clock.seconds()
            # An answer that is there is read before the next turn's timers.
            call = self._look if left > 0 else partial(self._look_again, self._asked[0])
            self._timer = self._clock.callLater(max(0, left), call)

    def _look_again(self, asked: float) -> None:
        self._timer = None
        if self._asked and self._asked[0] == asked:
            self._late = True
            self.transport.abortConnection()
        else:
            self._look()

    # What comes from the server

    def replyReceived(self, reply: object) -> None:
        # With an answer that nobody asked for, each later one would be taken
        # for that of the command before.
        if not self._asked:
            self.transport.abortConnection()
            return
        self._asked.popleft()
        super().replyReceived(reply)

    def _fail(self, failure: Failure) -> NoReturn:
        failure.trap(txredisapi.RedisError, RedisFailed)
        error = failure.value
        if isinstance(error, txredisapi.ConnectionError):
            if self._late:
                raise Late(f"no answer within {self._timeout:g} seconds") from None
            raise Lost("the connection was lost") from None
        if isinstance(error, RedisFailed):
            raise error
        if _changed_roles(str(error)):
            # What was the master is so no more; another may be.
            self.transport.abortConnection()
        raise Declined(str(error)) from None

    def connectionLost(self, why: Failure = connectionDone) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connectionLost(why)
        self._tell_ended(self, self._trouble or why.getErrorMessage())

    def close(self) -> None:
        """End the connection, whatever is under way."""
        self.transport.abortConnection()


_FIELD = re.compile(r"^([a-z0-9_]+):([^\r\n]*)", re.MULTILINE)


def _fields(info: object) -> dict[str, str]:
    text = info.decode("ascii", "replace") if isinstance(info, bytes) else ""
    return dict(_FIELD.findall(text))


def _changed_roles(error: str) -> bool:
    return error.startswith(("READONLY", "MASTERDOWN"))
