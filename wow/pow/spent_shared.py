"""
The set of spent tokens on a server: asked only while it is whole.

L{wow.pow.spent_scripts} says when it is. Here it is adopted when it is not,
and a server that is late or declines is held to be out of reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from structlog.typing import FilteringBoundLogger
from twisted.internet.defer import Deferred

from wow.breaker import Breaker
from wow.metrics import Tally
from wow.pow.spent import Unreachable
from wow.pow.spent_scripts import STALE, Scripts
from wow.redis.errors import Declined, Late, RedisFailed
from wow.redis.interfaces import IConnection, IPool
from wow.redis.script import Script

RETRY_AFTER = 1
"""Seconds after which one that was told C{unavailable} may try again."""

_KEY = b"wow:spent"


class SharedSet:
    """
    The set, by way of a pool of connections.

    A question is never asked twice, since the first time may have had its effect.

    @ivar mark: the mark last seen.
    """

    mark = 0

    def __init__(
        self,
        url: str,
        pool: IPool,
        scripts: Scripts,
        breaker: Breaker,
        reach_ms: int,
        failures: Mapping[str, Tally],
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param url: where the server is, for people.
        @param breaker: says when a server that was late may be asked again.
        @param reach_ms: how far ahead of the server's clock a token may expire.
        @param failures: counts questions without an answer, by L{wow.redis.errors.REASONS}.
        """
        self.url = url
        self.scripts = scripts
        self.breaker = breaker
        self.reach_ms = reach_ms
        self._pool = pool
        self._failures = failures
        self._log = log
        self._latest_ms = 0
        self._run_now: int | None = None
        self._fault: str | None = None
        self._declined: str | None = None
        self._evicts: str | None = None

    def open(self, changed: Callable[[], object]) -> None:
        """
        Begin to connect.

        @param changed: is called when L{trouble} may have changed.
        """
        self._changed = changed
        self._pool.start(self._greet, changed)

    def close(self) -> Deferred[None]:
        """
        End all connections.

        @return: a Deferred that fires when they have ended.
        """
        return self._pool.stop()

    def pick(self) -> IConnection | None:
        """A connection, or None if there is none."""
        return self._pool.pick()

    @property
    def trouble(self) -> str | None:
        """Why the server is out of reach, or None."""
        if not len(self._pool):
            return f"not connected: {self._pool.failure or 'not yet'}"
        return self._fault

    def status(self) -> Mapping[str, object]:
        """How it is, for people."""
        return {
            "url": self.url,
            "connections": len(self._pool),
            "breaker": self.breaker.state,
            "evicts": self._evicts,
        }

    async def ask(self, connection: IConnection, script: Script, *arguments: object) -> list[int]:
        """
        Run a script on the set.

        @param arguments: those after the run and the mark.
        @return: what it returns.
        @raise Unreachable: if the server does not answer, or declines.
        """
        try:
            reply = await self._run(connection, script, *arguments)
            if reply[0] == STALE:
                await self._adopt(connection)
                reply = await self._run(connection, script, *arguments)
                if reply[0] == STALE:
                    raise Declined("somebody else keeps changing what is kept")
        except RedisFailed as failed:
            self._note(failed)
            raise Unreachable(retry_after=RETRY_AFTER) from None
        self.mark = max(self.mark, reply[1])
        return reply

    def is_well(self, server_ms: int) -> None:
        """
        The server did what it is asked once a second. What it declined since
        the last time is held against it until the next; all else is forgiven.

        @param server_ms: its time.
        """
        self._latest_ms = max(self._latest_ms, server_ms)
        self.breaker.succeeded()
        self._fault, self._declined = self._declined, None

    def count(self, reason: str) -> None:
        """Count a question without an answer."""
        self._failures[reason].count += 1

    async def _run(self, connection: IConnection, script: Script, *arguments: object) -> list[int]:
        reply: list[int] = await connection.run(
            script, (_KEY,), _run_number(connection), self.mark, *arguments
        )
        return reply

    async def _greet(self, connection: IConnection) -> None:
        await self._adopt(connection)
        self.breaker.succeeded()
        self._fault = None
        self._look_at_policy(connection.about)

    async def _adopt(self, connection: IConnection) -> None:
        # Tokens are made to expire above the mark, so the one after it may be
        # out. A server that has lost its time as well is told the last one.
        least_ms = max(self.mark + 1, self._latest_ms + self.reach_ms)
        # What was spent on the server before, while others were on this one
        # already, nobody has told it.
        run = _run_number(connection)
        changed = self._run_now not in (None, run)
        moved, mark, _, now_ms = await self._run(
            connection, self.scripts.adopt, self.reach_ms, least_ms, int(changed)
        )
        self._run_now = run
        if changed:
            self._pool.keep(lambda other: _run_number(other) == run)
        self.mark = max(self.mark, mark)
        self._latest_ms = max(self._latest_ms, now_ms)
        if moved:
            self._log.warning(
                "spent_mark_moved",
                url=self.url,
                reason="the server was empty, has started again, or took another's place",
                meaning="challenges that were out are answered expired",
            )

    def _look_at_policy(self, about: Mapping[str, str]) -> None:
        policy, bound = about.get("maxmemory_policy", ""), about.get("maxmemory", "0")
        evicts = policy if bound != "0" and policy.startswith("allkeys") else None
        if evicts and not self._evicts:
            self._log.warning(
                "spent_store_may_be_evicted",
                url=self.url,
                policy=policy,
                meaning="a server short of memory may forget all that was redeemed; "
                "challenges that were out are then answered expired",
                remedy="set its maxmemory-policy to noeviction",
            )
        self._evicts = evicts

    def _note(self, failed: RedisFailed) -> None:
        self.count(failed.reason)
        if isinstance(failed, Late):
            self.breaker.failed()
            self._fault = str(failed)
        elif isinstance(failed, Declined):
            self._fault = self._declined = str(failed)
        self._changed()


def _run_number(connection: IConnection) -> int:
    """What names a server from its start to its end: 52 bits, which a score holds."""
    run_id = connection.about.get("run_id", "")
    if len(run_id) < 13:
        raise Declined("the server does not say its run_id in INFO")
    return int(run_id[:13], 16)
