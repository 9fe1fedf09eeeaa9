"""What lies between the sockets that a server listens on and what it serves there."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

from twisted.internet.interfaces import IProtocolFactory, IReactorTime

from wow.endpoint import Endpoint
from wow.identity import Identities
from wow.proxy.layer import ProxyLayer
from wow.tls import TlsLayer


class Layers:
    """
    Puts together what each endpoint asks for. What asks for nothing gets
    nothing: its connections go straight to what is served.
    """

    def __init__(
        self, make_proxy_layer: partial[ProxyLayer], identities: Identities, clock: IReactorTime
    ) -> None:
        """
        @param make_proxy_layer: takes the factory that it is to be over.
        """
        self._make_proxy_layer = make_proxy_layer
        self._identities = identities
        self._clock = clock
        self._proxied: list[ProxyLayer] = []

    def over(self, factory: IProtocolFactory, key: str, endpoint: Endpoint) -> Any:
        """
        A factory for an endpoint.

        @param factory: what is served.
        @param key: the endpoint's, in the configuration.
        @raise BadCertificate: if its certificate cannot be used.
        """
        if endpoint.tls is not None:
            identity = self._identities.add(key, endpoint.tls)
            factory = TlsLayer(identity, factory, self._clock)
        if endpoint.proxied:
            layer = self._make_proxy_layer(factory)
            self._proxied.append(layer)
            return layer
        return factory

    def prepare(
        self, endpoints: Mapping[str, Endpoint], balancers: Container[bytes]
    ) -> Callable[[], None]:
        """
        Read what may have changed, while the server runs.

        @param endpoints: as they are in the configuration by now, by key.
        @param balancers: addresses, packed, whose headers are to be believed
            from now on.
        @return: puts it in force.
        @raise BadCertificate: if a certificate cannot be used. Then nothing changes.
        """
        files = {key: endpoint.tls for key, endpoint in endpoints.items() if endpoint.tls}
        show = self._identities.read_again(files)

        def put_in_force() -> None:
            show()
            for layer in self._proxied:
                layer.trusted = balancers

        return put_in_force
