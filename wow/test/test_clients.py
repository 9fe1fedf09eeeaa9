"""What is known of each client is bounded, and what matters most is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.clients import Client, Clients


def visit(clients: Clients, prefix: bytes) -> Client:
    """Connect, and be gone again."""
    client = clients.find(prefix)
    clients.connect(prefix, client)
    clients.disconnect(prefix, client)
    return client


class Table(SynchronousTestCase):
    def test_stranger_is_not_remembered(self) -> None:
        clients = Clients(10)
        clients.find(b"stranger")
        self.assertEqual(len(clients), 0)

    def test_visitor_is_remembered(self) -> None:
        clients = Clients(10)
        visitor = visit(clients, b"known")
        self.assertIs(clients.find(b"known"), visitor)

    def test_connections_are_counted(self) -> None:
        clients = Clients(10)
        client = clients.find(b"busy")
        clients.connect(b"busy", client)
        clients.connect(b"busy", clients.find(b"busy"))
        self.assertEqual(client.connections, 2)
        clients.disconnect(b"busy", client)
        self.assertEqual(clients.find(b"busy").connections, 1)

    def test_never_above_its_bound(self) -> None:
        clients = Clients(10)
        for number in range(100):
            visit(clients, b"%d" % number)
        self.assertEqual(len(clients), 10)

    def test_who_is_connected_is_never_forgotten(self) -> None:
        clients = Clients(1)
        client = clients.find(b"here")
        clients.connect(b"here", client)
        for number in range(100):
            visit(clients, b"%d" % number)
        self.assertIs(clients.find(b"here"), client)

    def test_forgets_whom_it_heard_of_longest_ago(self) -> None:
        clients = Clients(4)
        for prefix in (b"first", b"second", b"third", b"first", b"fourth", b"fifth"):
            visit(clients, prefix)
        # All are alike, so it is the one that came longest ago.
        self.assertIsNot(clients.find(b"second"), clients.find(b"second"))
        self.assertIs(clients.find(b"first"), clients.find(b"first"))

    def test_strangers_do_not_wash_out_the_ill_behaved(self) -> None:
        clients = Clients(4)
        visit(clients, b"bad").level = 3
        for number in range(1000):
            visit(clients, b"%d" % number)
        self.assertEqual(clients.find(b"bad").level, 3)

    def test_of_the_equally_good_the_one_with_less_debt_goes(self) -> None:
        clients = Clients(2)
        visit(clients, b"debtor").failed = 50.0
        visit(clients, b"idle")
        visit(clients, b"new").connected = 10.0
        self.assertEqual(clients.find(b"debtor").failed, 50.0)
        self.assertEqual(clients.find(b"new").connected, 10.0)

    @given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=200))
    def test_bound_and_counts_hold_whatever_happens(self, steps: list[tuple[int, bool]]) -> None:
        clients = Clients(5)
        open_connections: dict[bytes, int] = {}
        for number, comes in steps:
            prefix = b"%d" % number
            client = clients.find(prefix)
            self.assertEqual(client.connections, open_connections.get(prefix, 0))
            if comes:
                clients.connect(prefix, client)
                open_connections[prefix] = client.connections
            elif client.connections:
                clients.disconnect(prefix, client)
                open_connections[prefix] = client.connections
            connected = sum(1 for count in open_connections.values() if count)
            self.assertLessEqual(len(clients), 5 + connected)
