"""Who was turned away is told now and then, so that an operator can deny them."""

from __future__ import annotations

import io
import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wow.logs import make_logger
from wow.networks import Networks
from wow.offenders import Offenders
from wow.pow.token import bind, pack

BITS = (32, 64)
PERIOD = 10.0


def client(address: str) -> bytes:
    return bind(pack(address), *BITS)


class Told(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.logged = Clock(), io.StringIO()
        log = make_logger(self.logged, "info", "json")
        self.offenders = Offenders(BITS, self.clock, log)
        self.offenders.startService()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.logged.getvalue().splitlines()]

    def turn_away(self, address: str, times: int = 1) -> None:
        for _ in range(times):
            self.offenders.turned_away(client(address))

    def test_who_and_how_often(self) -> None:
        self.turn_away("192.0.2.7", 2)
        self.turn_away("2001:db8:1:2:3:4:5:6", 3)
        self.clock.advance(PERIOD)
        (event,) = self.events()
        del event["timestamp"]
        self.assertEqual(
            event,
            {
                "event": "turned_away",
                "level": "info",
                "connections": 5,
                "clients": 2,
                "most": "2001:db8:1:2::/64 x3 192.0.2.7 x2",
            },
        )

    def test_by_what_they_were_turned_away_for(self) -> None:
        log = make_logger(self.logged, "info", "json")
        balancers = Offenders(BITS, self.clock, log, "proxy_refused")
        balancers.startService()
        balancers.turned_away(client("192.0.2.7"))
        self.clock.advance(PERIOD)
        self.assertEqual([event["event"] for event in self.events()], ["proxy_refused"])

    def test_in_the_words_of_a_deny_list(self) -> None:
        """All of a client is then denied."""
        self.turn_away("192.0.2.7")
        self.turn_away("2001:db8:1:2:3:4:5:6")
        self.clock.advance(PERIOD)
        words = self.events()[0]["most"].split()
        denied = Networks([word for word in words if word != "x1"])
        for address in ("192.0.2.7", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::1"):
            self.assertIn(pack(address), denied)

    def test_each_period_by_itself(self) -> None:
        for times in (3, 1):
            self.turn_away("192.0.2.7", times)
            self.clock.advance(PERIOD)
        self.assertEqual([event["connections"] for event in self.events()], [3, 1])

    def test_no_sooner(self) -> None:
        self.turn_away("192.0.2.7")
        self.clock.advance(PERIOD - 0.01)
        self.assertEqual(self.events(), [])
        self.clock.advance(0.01)
        self.assertEqual(len(self.events()), 1)

    def test_what_was_counted_before_the_start_is_told_with_the_rest(self) -> None:
        self.offenders.stopService()
        self.turn_away("192.0.2.7")
        self.offenders.startService()
        self.assertEqual(self.events(), [])
        self.clock.advance(PERIOD)
        self.assertEqual(len(self.events()), 1)

    def test_nothing_of_a_period_in_which_there_was_nobody(self) -> None:
        self.turn_away("192.0.2.7")
        self.clock.pump([PERIOD] * 10)
        self.assertEqual(len(self.events()), 1)

    def test_five_at_the_most_and_the_worst_first(self) -> None:
        for number in range(1, 8):
            self.turn_away(f"192.0.2.{number}", number)
        self.clock.advance(PERIOD)
        (event,) = self.events()
        worst = " ".join(f"192.0.2.{number} x{number}" for number in (7, 6, 5, 4, 3))
        self.assertEqual((event["most"], event["clients"]), (worst, 7))

    def test_strangers_are_counted_up_to_a_bound(self) -> None:
        for number in range(10_100):
            self.offenders.turned_away(bind(number.to_bytes(4, "big"), *BITS))
        self.turn_away("0.0.0.1", 5)
        self.clock.advance(PERIOD)
        (event,) = self.events()
        self.assertEqual(event["clients"], 10_000)
        self.assertTrue(event["most"].startswith("0.0.0.1 x6 "))

    def test_stops(self) -> None:
        self.offenders.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.offenders.running)
