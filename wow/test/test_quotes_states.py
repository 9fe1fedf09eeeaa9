"""How the sources are doing is read off the metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from twisted.trial.unittest import SynchronousTestCase

from wow.breaker import State
from wow.quotes.service import SourceStatus, Status
from wow.quotes.states import SourceStates


class States(SynchronousTestCase):
    def setUp(self) -> None:
        api = SourceStatus("api", State.OPEN, "timed out")
        book = SourceStatus("book", State.CLOSED, None)
        self.registry = CollectorRegistry()
        self.registry.register(SourceStates(lambda: Status("book", 3, 5, (api, book))))

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def test_state_of_each_breaker(self) -> None:
        found = {
            (source, state.value): self.sample("wow_quote_source_state", source=source, state=state)
            for source in ("api", "book")
            for state in State
        }
        held = {key for key, value in found.items() if value}
        self.assertEqual(held, {("api", "open"), ("book", "closed")})
        self.assertEqual(len(found), 6)

    def test_source_in_use(self) -> None:
        self.assertEqual(self.sample("wow_quote_source_used", source="api"), 0)
        self.assertEqual(self.sample("wow_quote_source_used", source="book"), 1)

    def test_quotes_to_be_repeated(self) -> None:
        self.assertEqual(self.sample("wow_quotes_kept"), 5)
