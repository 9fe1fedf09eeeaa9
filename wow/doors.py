"""
Doors: the listening sockets at which clients wait to be let in.

They are one thing, and letting clients in is another, that other processes may
do: those who wait then outlive whoever was to let them in. For many processes
a TCP port has a socket each, so that clients can be steered; any other
endpoint has one for all of them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service
from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from wow.endpoint import Endpoint, listener
from wow.entrance import Entrance
from wow.lifecycle import CannotStart


@frozen
class Door:
    """
    Where clients of an endpoint come in.

    @ivar sockets: one for each process, in order, or a single one for all.
    @ivar remove: closes what is more than a socket.
    """

    sockets: tuple[socket.socket, ...]
    remove: Callable[[], Any] = lambda: None

    def of(self, process: int) -> socket.socket:
        """
        The socket that a process lets clients in from.

        @param process: its number, from 0.
        """
        return self.sockets[process % len(self.sockets)]

    def close(self) -> Deferred[Any]:
        """
        Let nobody in any more.

        @return: a Deferred that fires when nothing is left of it.
        """
        removed = maybeDeferred(self.remove)
        for each in self.sockets:
            each.close()
        return removed

    @property
    def tcp(self) -> bool:
        """Whether its clients have addresses."""
        return self.sockets[0].family in (socket.AF_INET, socket.AF_INET6)


class Opener:
    """
    What an endpoint takes for the reactor when it is to listen. It opens a
    L{Door}, and lets nobody in.
    """

    def __init__(
        self, reactor: Any, processes: int, backlog: int, make_socket: Any = socket.socket
    ) -> None:
        """
        @param processes: how many are to let clients in.
        @param backlog: connections that wait at each socket.
        """
        self._reactor = reactor
        self._processes = processes
        self._backlog = backlog
        self._make_socket = make_socket

    def open(self, endpoint: str) -> Deferred[Door]:
        """
        Open a door.

        @param endpoint: a plain one of Twisted's.
        @return: a Deferred that fails with L{CannotListenError} if that is not possible.
        @raise NotHandedOver: if it is systemd's to open, and it has not.
        """
        opened: Deferred[Door] = listener(self, endpoint).listen(Factory())
        return opened

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Door:
        """See L{twisted.internet.interfaces.IReactorTCP}."""
        sockets: list[socket.socket] = []
        try:
            for _ in range(self._processes):
                sockets.append(self._bind(interface, port, joins=bool(sockets)))
                port = sockets[0].getsockname()[1]
            for each in sockets:
                each.listen(self._backlog)
        except OSError as error:
            for each in sockets:
                each.close()
            raise CannotListenError(interface, port, error) from None
        return Door(tuple(sockets))

    def _bind(self, interface: str, port: int, joins: bool) -> socket.socket:
        """
        @param joins: whether it is not the first socket of the port. The first one
            shows whether somebody else has it, even where he would share it.
        """
        family = socket.AF_INET6 if isIPv6Address(interface) else socket.AF_INET
        bound: socket.socket = self._make_socket(family)
        try:
            bound.setblocking(False)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            if joins:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
            passive = socket.AI_PASSIVE
            found = socket.getaddrinfo(
                interface or None, port, family, socket.SOCK_STREAM, 0, passive
            )
            bound.bind(found[0][4])
            if self._processes > 1:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
        except OSError:
            bound.close()
            raise
        return bound

    def listenUNIX(self, address: str, factory: Any, **arguments: Any) -> Door:
        """See L{twisted.internet.interfaces.IReactorUNIX}."""
        # Twisted's knows of lock files, modes, and paths that are left over.
        port = self._reactor.listenUNIX(address, factory, **arguments)
        port.stopReading()
        port.socket.listen(self._backlog)
        return Door((port.socket,), port.stopListening)

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> Door:
        """See L{twisted.internet.interfaces.IReactorSocket}."""
        adopted = self._make_socket(fileno=os.dup(descriptor))
        adopted.listen(self._backlog)
        # If it has a path, that is its opener's to remove.
        return Door((adopted,))


class Doors(Service):
    """
    The doors of a server, open for as long as it runs.

    @ivar opened: each, by the key of its endpoint in the configuration.
    """

    def __init__(self, opened: Mapping[str, Door]) -> None:
        self.opened = dict(opened)

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        return gatherResults([door.close() for door in self.opened.values()])


class DoorsToOpen(Doors):
    """Those that are not open yet. They all can be opened, or the server does not start."""

    def __init__(
        self, opener: Opener, endpoints: Mapping[str, Endpoint], log: FilteringBoundLogger
    ) -> None:
        """
        @param endpoints: by key.
        """
        super().__init__({})
        self._opener = opener
        self._endpoints = endpoints
        self._log = log
        self._failed: str | None = None

    def privilegedStartService(self) -> None:
        """
        Open all, while ports below 1024 may still be had.

        @raise CannotStart: if one cannot be opened.
        """
        for key, endpoint in self._endpoints.items():
            opening = maybeDeferred(self._opener.open, endpoint.base)
            opening.addCallback(self._opened, key, endpoint.text)
            opening.addErrback(self._cannot_listen, endpoint.text)
            if self._failed is not None:
                raise CannotStart(self._failed)

    def _opened(self, door: Door, key: str, endpoint: str) -> None:
        self.opened[key] = door
        host, port = door.sockets[0].getsockname()[:2] if door.tcp else (None, None)
        self._log.info("listening", endpoint=endpoint, host=host, port=port)

    def _cannot_listen(self, failure: Failure, endpoint: str) -> None:
        reason = failure.getErrorMessage()
        self._log.error("cannot_listen", endpoint=endpoint, reason=reason)
        self._failed = f"cannot listen on {endpoint}"


class Entrances(Service):
    """Lets clients in through all doors."""

    def __init__(self, doors: Doors, make_entrance: Callable[[str, Door], Entrance]) -> None:
        """
        @param make_entrance: is given each door, with its key.
        """
        self._doors = doors
        self._make_entrance = make_entrance
        self._entrances: list[Entrance] = []

    def startService(self) -> None:
        super().startService()
        for key, door in self._doors.opened.items():
            self._entrances.append(self._make_entrance(key, door))
            self._entrances[-1].open()

    def stopService(self) -> None:
        super().stopService()
        for entrance in self._entrances:
            entrance.close()
