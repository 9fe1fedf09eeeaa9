"""The spent store of many machines keeps its promises on a real server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from typing import Any, TypeVar

from prometheus_client import Counter
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.redis_server import KEY, Valkey
from tests.running import PATIENCE
from wow.breaker import Breaker
from wow.logs import make_logger
from wow.metrics import Tally
from wow.pow.spent import ISpentStore, Unreachable
from wow.pow.spent_redis import RedisSpentStore
from wow.pow.spent_scripts import SERVER_CLOCK, make_scripts
from wow.pow.spent_shared import SharedSet
from wow.redis.connection import Login
from wow.redis.errors import REASONS
from wow.redis.pool import Pool
from wow.spread import Spread
from wow.test.spent_conformance import SKEW, TTL, StoreConformance

reactor: Any = _reactor

_T = TypeVar("_T")

CLOCK = "local now = tonumber(redis.call('GET', 'clock'))\n"
"""A clock of the server's that a test sets."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def turn(until: Callable[[], bool]) -> None:
    """Turn the reactor, in a test that is synchronous, until something has come about."""
    for _ in range(10_000):
        if until():
            return
        reactor.iterate(0.01)
    raise AssertionError("what was waited for never came")


class Real(SynchronousTestCase):
    """A server, and stores whose connections to it are turned by hand."""

    def setUp(self) -> None:
        self.logged = StringIO()
        self.server = Valkey()
        self.addCleanup(self.server.remove)

    def make(self, now_ms: Callable[[], int], clock: str = SERVER_CLOCK) -> RedisSpentStore:
        log = make_logger(self.logged, "info", "json")
        counter = Counter("failures", "Failures.", ["reason"], registry=None)
        endpoint = UNIXClientEndpoint(reactor, self.server.socket)
        pool = Pool(endpoint, 2, Login(None, None, 0), PATIENCE, reactor, lambda: 0)
        shared = SharedSet(
            "unix",
            pool,
            make_scripts(clock),
            Breaker(reactor, lambda: 0, threshold=1, cool_down=2),
            TTL + SKEW,
            {reason: Tally(counter.labels(reason)) for reason in REASONS},
            log,
        )
        return RedisSpentStore(shared, SKEW, 10_000, now_ms, reactor, Spread(1.0), log)

    def wait(self, deferred: Deferred[_T]) -> _T:
        """What a Deferred fires with."""
        outcome: list[_T | Failure] = []
        deferred.addBoth(outcome.append)
        turn(lambda: bool(outcome))
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]


class RealRedisStore(StoreConformance, Real):
    """It keeps the promises of every store."""

    def setUp(self) -> None:
        Real.setUp(self)
        StoreConformance.setUp(self)

    @property
    def now(self) -> int:
        """What all clocks show, the server's too."""
        return self._now

    @now.setter
    def now(self, now_ms: int) -> None:
        self._now = now_ms
        self.server.admin.set("clock", now_ms)

    def make_store(self) -> RedisSpentStore:
        self.server.admin.delete(KEY)
        return self.make(lambda: self.now, CLOCK)

    def make_ready(self, store: ISpentStore) -> None:
        turn(lambda: store.trouble is None)

    wait = Real.wait


class Mishaps(Real):
    """What a server may do that is of no use."""

    def setUp(self) -> None:
        super().setUp()
        self.store = self.make(now_ms)
        self.store.open()
        self.addCleanup(lambda: self.wait(self.store.close()))
        turn(lambda: self.store.trouble is None)

    def spend(self, number: int = 1) -> bool:
        expiry_ms = self.store.mark + 1
        return self.wait(self.store.spend(expiry_ms, number.to_bytes(16, "big")))

    def purge(self) -> bool:
        return self.wait(self.store.purge(now_ms() - SKEW))

    def recovers(self) -> None:
        """What was spent is so still, and what was not can be."""

        def well() -> bool:
            self.purge()
            return self.store.trouble is None

        turn(well)
        self.assertIs(self.spend(2), True)

    def test_no_memory(self) -> None:
        self.assertIs(self.spend(), True)
        self.server.admin.zadd(KEY, {b"expired": 1})
        self.server.admin.config_set("maxmemory", 1)
        self.assertRaises(Unreachable, self.spend, 3)
        self.assertIn("OOM", str(self.store.trouble))
        # To forget is what helps, so it must still be possible.
        self.purge()
        self.assertEqual(self.server.admin.zscore(KEY, b"expired"), None)
        self.server.admin.config_set("maxmemory", 0)
        self.recovers()
        self.assertIs(self.spend(), False)

    def test_other_data_under_the_key(self) -> None:
        self.server.admin.set(KEY, "another's")
        self.assertRaises(Unreachable, self.spend)
        self.assertIn("WRONGTYPE", str(self.store.trouble))
        self.assertEqual(self.server.admin.get(KEY), b"another's")
        self.server.admin.delete(KEY)
        self.recovers()

    def test_server_that_became_a_replica(self) -> None:
        self.assertIs(self.spend(), True)
        self.server.admin.replicaof("127.0.0.1", 9)
        self.assertRaises(Unreachable, self.spend, 3)
        turn(lambda: "READONLY" in str(self.store.trouble))
        self.server.admin.replicaof("NO", "ONE")
        self.recovers()
        self.assertIs(self.spend(), False)

    def test_too_few_replicas(self) -> None:
        self.server.admin.config_set("min-replicas-to-write", 1)
        self.assertRaises(Unreachable, self.spend)
        self.assertIn("NOREPLICAS", str(self.store.trouble))
        self.purge()
        self.assertIn("NOREPLICAS", str(self.store.trouble))
        self.server.admin.config_set("min-replicas-to-write", 0)
        self.recovers()

    def test_scripts_forgotten(self) -> None:
        self.assertIs(self.spend(), True)
        self.server.admin.script_flush()
        self.assertIs(self.spend(), False)

    def test_too_many_clients(self) -> None:
        self.server.admin.config_set("maxclients", 1)
        self.server.admin.client_kill_filter(_type="normal", skipme=True)
        turn(lambda: "max number of clients" in str(self.store.trouble))
        self.server.admin.config_set("maxclients", 100)
        self.recovers()

    def test_mark_is_the_servers_time_and_the_life_of_a_token(self) -> None:
        ago_ms = now_ms() + TTL + SKEW - self.store.mark
        self.assertTrue(0 <= ago_ms < PATIENCE * 1000, ago_ms)

    def test_many_recorded_at_once(self) -> None:
        expiry_ms = self.store.mark + 1
        tokens = [(expiry_ms, number.to_bytes(16, "big")) for number in range(500)]
        self.wait(self.store.record(tokens))
        self.assertIs(self.spend(499), False)

    def test_full_load(self) -> None:
        spending = [self.store.spend(self.store.mark + 1, bytes([n] * 16)) for n in range(200)]
        self.assertEqual([self.wait(each) for each in spending], [True] * 200)


class Imports(SynchronousTestCase):
    def test_no_reactor_before_it_is_chosen(self) -> None:
        """txredisapi brings the reactor with it, and C{twistd --reactor} has to come first."""
        names = ("txredisapi", "twisted.internet.reactor")
        script = f"import sys, wow.tap; print([name for name in {names} if name in sys.modules])"
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
        self.assertEqual(run.stdout, b"[]\n")
