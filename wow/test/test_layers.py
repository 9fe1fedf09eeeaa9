"""Each endpoint gets the layers that its text asks for, and no others."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from wow.connection import Peer
from wow.endpoint import parse
from wow.identity import Identities
from wow.layers import Layers
from wow.logs import make_logger
from wow.metrics import Metrics
from wow.networks import Networks
from wow.proxy.layer import ProxyLayer
from wow.proxy.waiting import WaitingRoom
from wow.test.certificates import issue
from wow.test.test_proxy_layer import Wire
from wow.test.test_tls import PEER, Client, Layered, trusting

HEADER = b"PROXY TCP4 198.51.100.7 192.0.2.2 5000 7777\r\n"


class Over(Layered):
    def setUp(self) -> None:
        super().setUp()
        metrics, log = Metrics(), make_logger(io.StringIO(), "info", "json")
        make_proxy_layer = partial(
            ProxyLayer,
            trusted=Networks(["192.0.2.0/24"]),
            room=WaitingRoom(9, 5, self.clock),
            refused=metrics.proxy_refused,
            turned_away=lambda address: None,
            log=log,
        )
        identities = Identities(partial(datetime.now, UTC), metrics.certificate_expiry, log)
        self.layers = Layers(make_proxy_layer, identities, self.clock)

    def over(self, text: str) -> Any:
        return self.layers.over(self.factory, "listen.0", parse(text))

    def files(self) -> str:
        self.path = Path(self.mktemp())
        self.path.touch(0o600)
        self.renew()
        return f"privateKey={self.path}"

    def renew(self) -> None:
        issued = issue()
        self.path.write_bytes(issued.private + issued.public)

    def test_nothing(self) -> None:
        """So it costs nothing."""
        self.assertIs(self.over("tcp:7777"), self.factory)

    def test_header(self) -> None:
        layer = self.over("haproxy:tcp:7777")
        assert isinstance(layer, ProxyLayer)
        self.assertIs(layer.factory, self.factory)

    def test_tls(self) -> None:
        client = Client(self.over(f"ssl:7777:{self.files()}"), self.clock, trusting())
        self.assertEqual(client.echo(b"hello"), b"hello")
        self.assertEqual(self.factory.asked, [PEER])

    def test_tls_after_the_header(self) -> None:
        layer = self.over(f"haproxy:ssl:7777:{self.files()}")
        client = Client(layer, self.clock, trusting(), beginning=HEADER)
        self.assertEqual(client.echo(b"hello"), b"hello")
        self.assertEqual(self.factory.asked, [Peer("198.51.100.7", 5000)])

    def test_refusal_after_the_header_is_a_reset(self) -> None:
        self.factory.refuses = True
        layer = self.over(f"haproxy:ssl:7777:{self.files()}")
        wire = Wire()
        wire.protocol = layer.buildProtocol(PEER)
        wire.protocol.makeConnection(wire)
        wire.deliver(HEADER)
        self.assertTrue(wire.aborted)
        self.assertEqual(self.factory.asked, [Peer("198.51.100.7", 5000)])

    def test_certificates_are_read_again(self) -> None:
        text = f"ssl:7777:{self.files()}"
        layer = self.over(text)
        before = Client(layer, self.clock, trusting()).certificate()
        self.renew()
        put_in_force = self.layers.prepare({"listen.0": parse(text)}, ())
        self.assertEqual(Client(layer, self.clock, trusting()).certificate(), before)
        put_in_force()
        self.assertNotEqual(Client(layer, self.clock, trusting()).certificate(), before)

    def test_all_trust_the_same(self) -> None:
        endpoints = [self.over(f"haproxy:tcp:{port}") for port in (7777, 7778)]
        put_in_force = self.layers.prepare({}, Networks(["203.0.113.0/24"]))
        self.assertIsNotNone(endpoints[0].buildProtocol(PEER))
        put_in_force()
        for layer in endpoints:
            self.assertIsNone(layer.buildProtocol(PEER))
            self.assertIsNotNone(layer.buildProtocol(Peer("203.0.113.1", 1)))
