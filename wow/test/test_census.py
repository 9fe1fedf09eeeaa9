"""Connections are counted by what they are about."""

from __future__ import annotations

from attrs import frozen
from prometheus_client import CollectorRegistry
from twisted.trial.unittest import SynchronousTestCase

from wow.census import STATES, Census


@frozen
class Connection:
    state: str


class Counting(SynchronousTestCase):
    def setUp(self) -> None:
        self.connections: list[Connection] = []
        self.registry = CollectorRegistry()
        self.registry.register(Census(self.connections))

    def count(self, state: str) -> float | None:
        return self.registry.get_sample_value("wow_connections_by_state", {"state": state})

    def test_by_state(self) -> None:
        self.connections += map(Connection, ("solving", "not read by its peer", "solving"))
        self.assertEqual(self.count("solving"), 2)
        self.assertEqual(self.count("not_read_by_its_peer"), 1)

    def test_every_state_is_there_from_the_start(self) -> None:
        self.assertEqual({self.count(state.replace(" ", "_")) for state in STATES}, {0})
