"""A connection to a Redis server, byte by byte: logged in, greeted, asked, and given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wow.redis.connection import Connection, Login
from wow.redis.errors import Declined, Late, Lost
from wow.redis.script import Script

INFO = b"# Server\r\nrun_id:0123abcd\r\nos:Linux: x\r\n\r\n# Memory\r\nmaxmemory:0\r\n"
SCRIPT = Script("return {1, 2}")


def command(*words: object) -> bytes:
    """A command as it travels."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    body = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n%s" % (len(parts), body)


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


class Turns(Clock):
    """As the reactor does it: what is to be called in no time is called in the next turn."""

    def advance(self, amount: float) -> None:
        self.rightNow += amount
        for call in [call for call in self.calls if call.getTime() <= self.seconds()]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


class Connected(SynchronousTestCase):
    """
    A connection that has just been made.

    @ivar told: what it told, in order.
    """

    login = Login(None, None, 0)

    def setUp(self) -> None:
        self.clock = Turns()
        self.told: list[str] = []
        self.greeting: Deferred[None] = Deferred()
        self.connection = Connection(
            self.login,
            0.5,
            self.greet,
            lambda _: self.told.append("ready"),
            lambda _, why: self.told.append(why),
            self.clock,
        )
        self.transport = StringTransport()
        self.connection.makeConnection(self.transport)

    def greet(self, connection: Connection) -> Deferred[None]:
        self.told.append("greeted")
        return self.greeting

    def said(self) -> bytes:
        said: bytes = self.transport.value()
        self.transport.clear()
        return said

    def hear(self, data: bytes) -> None:
        self.connection.dataReceived(data)
        # txredisapi takes what follows a string in the next turn.
        self.clock.advance(0)

    def lose(self, why: Exception | None = None) -> None:
        self.connection.connectionLost(Failure(why or ConnectionDone()))

    def make_ready(self) -> None:
        self.hear(bulk(INFO))
        self.greeting.callback(None)
        self.said()

    def run_script(self, *args: object, keys: Sequence[bytes] = (b"key",)) -> Deferred[Any]:
        return self.connection.run(SCRIPT, keys, *args)


class Beginning(Connected):
    def test_asks_who_it_is_talking_to(self) -> None:
        self.assertEqual(self.said(), command("INFO"))
        self.hear(bulk(INFO))
        self.assertEqual(self.told, ["greeted"])
        about = {"run_id": "0123abcd", "os": "Linux: x", "maxmemory": "0"}
        self.assertEqual(self.connection.about, about)

    def test_ready_once_it_is_greeted(self) -> None:
        self.hear(bulk(INFO))
        self.assertEqual(self.told, ["greeted"])
        self.greeting.callback(None)
        self.assertEqual(self.told, ["greeted", "ready"])

    def test_greeting_fails(self) -> None:
        self.hear(bulk(INFO))
        self.greeting.errback(Declined("OOM command not allowed"))
        self.assertTrue(self.transport.disconnected)
        self.lose()
        self.assertEqual(self.told, ["greeted", "OOM command not allowed"])

    def test_bug_in_the_greeting(self) -> None:
        self.hear(bulk(INFO))
        self.greeting.errback(ZeroDivisionError("bug"))
        self.assertTrue(self.transport.disconnected)
        self.lose()
        self.assertEqual(self.told, ["greeted", "bug"])

    def test_server_that_asks_for_a_password(self) -> None:
        self.hear(b"-NOAUTH Authentication required.\r\n")
        self.assertTrue(self.transport.disconnected)
        self.lose()
        self.assertEqual(self.told, ["NOAUTH Authentication required."])

    def test_server_that_is_slow(self) -> None:
        self.clock.pump([0.5, 0])
        self.assertTrue(self.transport.disconnected)
        self.lose()
        self.assertEqual(self.told, ["no answer within 0.5 seconds"])

    def test_lost_before_it_is_ready(self) -> None:
        self.lose(ConnectionLost("certificate verify failed"))
        (told,) = self.told
        self.assertIn("certificate verify failed", told)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LoggingIn(Connected):
    login = Login("wow", "s3cret", 3)

    def test_in_order(self) -> None:
        self.assertEqual(self.said(), command("AUTH", "wow", "s3cret"))
        self.hear(b"+OK\r\n")
        self.assertEqual(self.said(), command("SELECT", 3))
        self.hear(b"+OK\r\n")
        self.assertEqual(self.said(), command("INFO"))

    def test_refused(self) -> None:
        self.hear(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")
        self.assertTrue(self.transport.disconnected)
        self.lose()
        self.assertIn("WRONGPASS", self.told[0])

    def test_too_many_clients(self) -> None:
        self.hear(b"-ERR max number of clients reached\r\n")
        self.lose()
        self.assertIn("max number of clients reached", self.told[0])

    def test_no_such_database(self) -> None:
        self.hear(b"+OK\r\n-ERR DB index is out of range\r\n")
        self.lose()
        self.assertIn("DB index is out of range", self.told[0])

    def test_password_is_not_shown(self) -> None:
        self.assertNotIn("s3cret", repr(self.login))


class Default(Connected):
    login = Login(None, "s3cret", 0)

    def test_default_user(self) -> None:
        self.assertEqual(self.said(), command("AUTH", "s3cret"))


class Asking(Connected):
    def setUp(self) -> None:
        super().setUp()
        self.make_ready()

    def test_by_hash(self) -> None:
        running = self.run_script(1, b"\xff\x00", keys=[b"key"])
        self.assertEqual(self.said(), command("EVALSHA", SCRIPT.sha, 1, "key", 1, b"\xff\x00"))
        self.hear(b"*2\r\n:1\r\n:1700000000000\r\n")
        self.assertEqual(self.successResultOf(running), [1, 1700000000000])

    def test_script_that_the_server_does_not_know(self) -> None:
        for _ in range(2):
            running = self.run_script(1)
            self.assertIn(b"EVALSHA", self.said())
            self.hear(b"-NOSCRIPT No matching script. Please use EVAL.\r\n")
            self.assertEqual(self.said(), command("EVAL", SCRIPT.text, 1, "key", 1))
            self.hear(b"*1\r\n:7\r\n")
            self.assertEqual(self.successResultOf(running), [7])

    def test_one_after_the_other(self) -> None:
        running = [self.run_script(number) for number in range(3)]
        self.assertEqual(self.connection.in_flight, 3)
        self.hear(b"*1\r\n:0\r\n*1\r\n:1\r\n-ERR bad\r\n")
        self.assertEqual([self.successResultOf(each) for each in running[:2]], [[0], [1]])
        self.failureResultOf(running[2], Declined)
        self.assertEqual(self.connection.in_flight, 0)

    @given(st.lists(st.integers(1, 9)))
    def test_in_any_pieces(self, lengths: list[int]) -> None:
        running = [self.run_script(number) for number in range(3)]
        answers = b"*2\r\n:1\r\n:-2\r\n*1\r\n:0\r\n*1\r\n:1234567890123\r\n"
        for length in lengths:
            self.hear(answers[:length])
            answers = answers[length:]
        self.hear(answers)
        self.assertEqual(
            [self.successResultOf(each) for each in running], [[1, -2], [0], [1234567890123]]
        )

    def test_declined(self) -> None:
        running = self.run_script()
        self.hear(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n")
        self.assertIn("OOM", str(self.failureResultOf(running, Declined).value))
        self.assertFalse(self.transport.disconnected)

    def test_master_that_is_one_no_more(self) -> None:
        for answer in (
            b"-READONLY You can't write against a read only replica.\r\n",
            b"-MASTERDOWN Link with MASTER is down.\r\n",
        ):
            self.transport.disconnected = False
            running = self.run_script()
            self.hear(answer)
            self.failureResultOf(running, Declined)
            self.assertTrue(self.transport.disconnected, answer)

    def test_late(self) -> None:
        running = [self.run_script() for _ in range(3)]
        self.clock.advance(0.49)
        self.assertFalse(self.transport.disconnected)
        self.clock.pump([0.02, 0])
        self.assertTrue(self.transport.disconnected)
        self.lose()
        for each in running:
            failure = self.failureResultOf(each, Late)
            self.assertEqual(failure.getErrorMessage(), "no answer within 0.5 seconds")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_each_has_its_time(self) -> None:
        for _ in range(20):
            running = self.run_script()
            self.clock.advance(0.4)
            self.hear(b"*1\r\n:0\r\n")
            self.successResultOf(running)
        self.run_script()
        self.clock.pump([0.49, 0])
        self.assertFalse(self.transport.disconnected)
        self.clock.pump([0.02, 0, 0])
        self.assertTrue(self.transport.disconnected)

    def test_answer_that_came_while_the_process_was_busy(self) -> None:
        # A timer that is due is looked at before what has arrived is read.
        for _ in range(3):
            running = self.run_script()
            self.clock.advance(10)
            self.hear(b"*1\r\n:0\r\n")
            self.successResultOf(running)
            self.clock.pump([0, 0])
            self.assertFalse(self.transport.disconnected)

    def test_question_asked_after_the_process_was_busy(self) -> None:
        self.run_script()
        self.clock.advance(10)
        self.connection.dataReceived(b"*1\r\n:0\r\n")
        self.run_script()
        self.clock.pump([0, 0.49, 0])
        self.assertFalse(self.transport.disconnected)
        self.clock.pump([0.02, 0])
        self.assertTrue(self.transport.disconnected)

    def test_one_timer_for_all(self) -> None:
        for _ in range(5):
            self.run_script()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_idle_connection_has_no_timer(self) -> None:
        self.clock.advance(10)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lost(self) -> None:
        running = self.run_script()
        self.lose()
        self.failureResultOf(running, Lost)
        self.failureResultOf(self.run_script(), Lost)

    def test_answer_that_nobody_asked_for(self) -> None:
        # Each later one would be taken for that of the question before.
        self.hear(b"*1\r\n:1\r\n")
        self.assertTrue(self.transport.disconnected)

    def test_closed(self) -> None:
        self.connection.close()
        self.assertTrue(self.transport.disconnected)

    @given(st.binary(max_size=60))
    def test_anything_that_a_server_may_say(self, data: bytes) -> None:
        self.setUp()
        running = self.run_script()
        try:
            self.hear(data)
        except Exception:
            # What the reactor does with it.
            self.lose()
        else:
            self.lose()
        outcome: list[object] = []
        running.addBoth(outcome.append)
        self.assertEqual(len(outcome), 1)
