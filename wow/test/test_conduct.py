"""Who takes challenges without redeeming them, or fails checks, pays more; for a while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.clients import Client
from wow.conduct import STEP, suspect, trust
from wow.pow.pricing import LEVELS


def suspected(times: int, now: float = 0.0) -> Client:
    client = Client()
    for _ in range(times):
        suspect(client, now)
    return client


class Levels(SynchronousTestCase):
    def test_unknown_client_pays_the_price_as_it_is(self) -> None:
        self.assertEqual(suspect(Client(), 1e9), 0)

    def test_doubled_with_each_step_of_suspicion(self) -> None:
        self.assertEqual(suspected(int(STEP) - 1).level, 0)
        self.assertEqual(suspected(int(STEP)).level, 1)
        self.assertEqual(suspected(2 * int(STEP)).level, 2)

    def test_bounded(self) -> None:
        self.assertEqual(suspected(100 * int(STEP)).level, LEVELS)

    def test_who_redeems_all_stays_at_the_bottom(self) -> None:
        client = Client()
        for _ in range(10_000):
            self.assertEqual(suspect(client, 0), 0)
            trust(client, 0)

    def test_redeeming_saves_nothing_up(self) -> None:
        client = Client()
        for _ in range(100):
            trust(client, 0)
        for _ in range(int(STEP)):
            suspect(client, 0)
        self.assertEqual(client.level, 1)

    def test_halved_with_successes(self) -> None:
        client = suspected(int(STEP))
        for _ in range(int(STEP) // 4 - 1):
            trust(client, 0)
        self.assertEqual(client.level, 1)
        trust(client, 0)
        self.assertEqual(client.level, 0)

    def test_halved_with_time(self) -> None:
        client = suspected(int(STEP))
        self.assertEqual(suspect(client, STEP / 2), 1)
        self.assertEqual(suspect(client, STEP / 2 + 2), 0)

    def test_all_is_forgiven_in_the_end(self) -> None:
        client = suspected(100 * int(STEP))
        self.assertEqual(suspect(client, STEP * (LEVELS + 1)), 0)

    def test_client_at_the_edge_does_not_flip(self) -> None:
        client = suspected(int(STEP))
        seen = []
        for _ in range(int(STEP) // 4):
            trust(client, 0)
            suspect(client, 0)
            seen.append(suspect(client, 0))
        self.assertEqual(set(seen), {1})

    def test_clock_set_back_forgives_nothing_and_adds_nothing(self) -> None:
        client = suspected(int(STEP), now=1000.0)
        self.assertEqual(suspect(client, 0.0), 1)
        self.assertEqual(client.suspicion, STEP + 1)

    @given(st.lists(st.tuples(st.sampled_from([suspect, trust]), st.floats(0, 100)), max_size=300))
    def test_level_always_fits_the_suspicion(self, steps: list[tuple[object, float]]) -> None:
        client, now = Client(), 0.0
        for act, pause in steps:
            now += pause
            act(client, now)  # type: ignore[operator]
            self.assertTrue(0 <= client.level <= LEVELS)
            self.assertTrue(STEP * (client.level - 0.5) < client.suspicion or client.level == 0)
            self.assertTrue(client.suspicion < STEP * (client.level + 1) or client.level == LEVELS)
