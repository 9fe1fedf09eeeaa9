"""A Redis server in memory, which runs the real scripts, and connections to it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from lupa import lua51
from twisted.internet.defer import Deferred, fail, succeed

from wow.redis.errors import Declined, Late, Lost
from wow.redis.script import Script


class FakeServer:
    """
    As much of a server as the scripts use.

    @ivar scores: of the members of the one set that there is.
    @ivar run_id: what it calls its run.
    @ivar says: what else it says of itself.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.now_ms = now_ms
        self.scores: dict[bytes, float] = {}
        self.run_id = os.urandom(20).hex()
        self.says: dict[str, str] = {}
        self._lua = lua51.LuaRuntime(encoding=None)
        self._functions: dict[str, Any] = {}

    def restart(self) -> None:
        """Begin another run, with what was kept."""
        self.run_id = os.urandom(20).hex()

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[object]) -> list[int]:
        """What a script returns."""
        call = self._functions.get(script.sha)
        if call is None:
            text = b"return function(redis, KEYS, ARGV)\n" + script.text.encode() + b"\nend"
            call = self._functions[script.sha] = self._lua.execute(text)
        redis = self._lua.table_from({b"call": self._call})
        values = [value if isinstance(value, bytes) else str(value).encode() for value in args]
        answer = call(redis, self._lua.table_from(keys), self._lua.table_from(values))
        return [int(answer[index]) for index in range(1, len(answer) + 1)]

    def _call(self, command: bytes, *args: Any) -> Any:
        answer = getattr(self, f"_{command.decode().lower()}")(*args)
        return self._lua.table_from(answer) if isinstance(answer, list) else answer

    # Commands

    def _time(self) -> list[bytes]:
        seconds, ms = divmod(self.now_ms(), 1000)
        return [str(seconds).encode(), str(ms * 1000 + 999).encode()]

    def _zmscore(self, key: bytes, *members: bytes) -> list[Any]:
        scores = [self.scores.get(member) for member in members]
        # What is not there is false to Lua.
        return [False if score is None else repr(score).encode() for score in scores]

    def _zcard(self, key: bytes) -> int:
        return len(self.scores)

    def _zadd(self, key: bytes, *args: Any) -> int:
        absent_only = args[0] == b"NX"
        pairs = args[1:] if absent_only else args
        before = len(self.scores)
        for score, member in zip(pairs[::2], pairs[1::2], strict=True):
            if not (absent_only and member in self.scores):
                self.scores[member] = float(score)
        return len(self.scores) - before

    def _zrem(self, key: bytes, *members: bytes) -> int:
        for member in members:
            del self.scores[member]
        return len(members)

    def _zrangebyscore(self, key: bytes, low: bytes, high: bytes, *options: Any) -> list[bytes]:
        assert (low, high[:1], options[:3]) == (b"-inf", b"(", (b"WITHSCORES", b"LIMIT", 0))
        ordered = sorted(self.scores.items(), key=lambda item: (item[1], item[0]))
        below = [item for item in ordered if item[1] < float(high[1:])][: int(options[3])]
        return [part for member, score in below for part in (member, repr(score).encode())]


class FakeConnection:
    """
    A connection to such a server.

    @ivar failure: what comes instead of answers, or None.
    @ivar deaf: whether the server does not even get what is asked, while there
        is a failure.
    """

    failure: Exception | None = None
    deaf = True
    in_flight = 0

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.about = {"run_id": server.run_id, **server.says}
        self.held: list[Callable[[], object]] | None = None

    def run(self, script: Script, keys: Sequence[bytes], *args: object) -> Deferred[Any]:
        if self.held is not None:
            waiting: Deferred[Any] = Deferred()
            self.held.append(lambda: self._run(script, keys, args).chainDeferred(waiting))
            return waiting
        return self._run(script, keys, args)

    def _run(self, script: Script, keys: Sequence[bytes], args: Sequence[object]) -> Deferred[Any]:
        if self.failure is not None and self.deaf:
            return fail(self.failure)
        answer = self.server.run(script, keys, args)
        return succeed(answer) if self.failure is None else fail(self.failure)

    def hold(self) -> None:
        """Keep what is asked, unanswered, until L{release}."""
        self.held = []

    def release(self) -> None:
        held, self.held = self.held or [], None
        for run in held:
            run()


class FakePool:
    """
    Connections that the test makes and ends.

    @ivar server: to which the next one goes.
    """

    failure: str | None = None

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.connections: list[FakeConnection] = []
        self.stopped = False

    def start(
        self, greet: Callable[[Any], Awaitable[object]], changed: Callable[[], object]
    ) -> None:
        self._greet = greet
        self._changed = changed

    def connect(self) -> FakeConnection:
        """Make a connection, as it is made by itself some time after the last one ended."""
        connection = FakeConnection(self.server)
        greeting = Deferred.fromCoroutine(self._greeting(connection))
        greeting.addErrback(lambda failure: self.end(failure.getErrorMessage()))
        return connection

    async def _greeting(self, connection: FakeConnection) -> None:
        await self._greet(connection)
        self.connections.append(connection)
        self._changed()

    def end(self, why: str = "Connection was closed cleanly.") -> None:
        """End all connections."""
        self.connections.clear()
        self.failure = why
        self._changed()

    def pick(self) -> FakeConnection | None:
        return self.connections[0] if self.connections else None

    def keep(self, wanted: Callable[[Any], bool]) -> None:
        self.connections = [each for each in self.connections if wanted(each)]

    def stop(self) -> Deferred[None]:
        self.stopped = True
        return succeed(None)

    def __len__(self) -> int:
        return len(self.connections)


LATE = Late("no answer within 0.5 seconds")
LOST = Lost("the connection was lost")
NO_MEMORY = Declined("OOM command not allowed when used memory > 'maxmemory'.")
