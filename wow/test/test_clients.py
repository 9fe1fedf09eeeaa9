"""What is known of each client is bounded, and what matters most is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.clients import Client, Clients


def visit(clients: Clients, prefix: bytes, **known: float) -> Client:
    """Connect, do something to be known for, and be gone again."""
    client = clients.find(prefix)
    clients.connect(client)
    for name, value in known.items():
        setattr(client, name, value)
    clients.disconnect(client)
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
        clients.connect(client)
        clients.connect(clients.find(b"busy"))
        self.assertEqual(client.connections, 2)
        clients.disconnect(client)
        self.assertEqual(clients.find(b"busy").connections, 1)

    def test_who_is_connected_counts_too(self) -> None:
        clients = Clients(10)
        clients.connect(clients.find(b"here"))
        visit(clients, b"gone")
        self.assertEqual(len(clients), 2)

    def test_never_above_its_bound(self) -> None:
        clients = Clients(10)
        for number in range(100):
            visit(clients, b"%d" % number)
        self.assertEqual(len(clients), 10)

    def test_who_is_connected_is_never_forgotten(self) -> None:
        clients = Clients(1)
        client = clients.find(b"here")
        clients.connect(client)
        clients.connect(client)
        clients.disconnect(client)
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
        visit(clients, b"bad", suspicion=96.0)
        for number in range(1000):
            visit(clients, b"%d" % number)
        self.assertEqual(clients.find(b"bad").suspicion, 96.0)

    def test_nor_many_of_them(self) -> None:
        clients, ill_behaved = Clients(100), [b"bad %d" % number for number in range(50)]
        for prefix in ill_behaved:
            visit(clients, prefix, suspicion=96.0)
        for number in range(1000):
            visit(clients, b"%d" % number)
        kept = [prefix for prefix in ill_behaved if clients.find(prefix).suspicion]
        self.assertGreater(len(kept), 25)

    def test_whatever_there_is_to_say_of_one_is_a_reason_to_keep_it(self) -> None:
        for reason in ("connected", "asked", "failed", "suspicion"):
            clients = Clients(1)
            known = visit(clients, b"known", **{reason: 50.0})
            visit(clients, b"idle")
            self.assertIs(clients.find(b"known"), known, reason)

    def test_suspicion_is_worth_what_is_left_of_it(self) -> None:
        """A second takes a point, so this one is over after 110."""
        for failed, stays in ((109.0, b"suspect"), (111.0, b"failure")):
            clients = Clients(1)
            visit(clients, b"suspect", suspected=10.0, suspicion=100.0, level=3)
            visit(clients, b"failure", failed=failed)
            self.assertIs(clients.find(stays), clients.find(stays))

    @given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=200))
    def test_bound_and_counts_hold_whatever_happens(self, steps: list[tuple[int, bool]]) -> None:
        clients = Clients(5)
        open_connections: dict[bytes, int] = {}
        for number, comes in steps:
            prefix = b"%d" % number
            client = clients.find(prefix)
            self.assertEqual(client.connections, open_connections.get(prefix, 0))
            if comes:
                clients.connect(client)
                open_connections[prefix] = client.connections
            elif client.connections:
                clients.disconnect(client)
                open_connections[prefix] = client.connections
            connected = sum(1 for count in open_connections.values() if count)
            self.assertLessEqual(len(clients), 5 + connected)
