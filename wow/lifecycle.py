"""
How the parts of a server start and stop: in order, with nothing left half done.

Parts are started in order and stopped the other way round, one after the
other: first no new client is taken, then the exchanges under way are
finished, and metrics and health answer until the last.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from structlog.typing import FilteringBoundLogger
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from wow import __version__
from wow.descriptors import Sparing
from wow.endpoint import Endpoint, listener
from wow.logs import Observer
from wow.pow.spent import CannotOpen
from wow.server import Gate


class CannotStart(Exception):
    """The server cannot start. Why is in the log; the message says it again."""


class Ordered(MultiService):
    """
    Services that are started in order, and stopped in the opposite order, each
    when the one after it has stopped.
    """

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def setServiceParent(self, parent: Any) -> None:
        # The one place where twistd shows the application, whose log it will
        # open next.
        if isinstance(parent, Componentized):
            observer = Sparing(Observer(self._log), time.monotonic)
            parent.setComponent(ILogObserver, observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        try:
            super().startService()
        except CannotOpen as failed:
            self._log.error("cannot_start", reason=str(failed))
            raise CannotStart(str(failed)) from None
        self._log.info("started", version=__version__)

    @inlineCallbacks
    def stopService(self) -> Any:
        Service.stopService(self)
        self._log.info("stopping")
        for service in reversed(list(self)):
            try:
                yield maybeDeferred(service.stopService)
            except Exception:
                self._log.error("stop_failed", service=type(service).__name__, exc_info=True)
        self._log.info("stopped")


class Listener(Service):
    """
    One listening endpoint, for operators. If it cannot listen, the process
    ends: a server that nobody can look into helps nobody.
    """

    _failed = False

    def __init__(
        self,
        reactor: Any,
        endpoint: Endpoint,
        factory: IProtocolFactory,
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param factory: what is served at the endpoint, with all that is to lie
            between that and the socket.
        """
        self._reactor = reactor
        self._socket = endpoint.base
        self._endpoint = endpoint.text
        self._factory = factory
        self._log = log
        self._port: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        """
        Listen, while ports below 1024 may still be had.

        @raise CannotStart: if that is not possible.
        """
        listening = maybeDeferred(self._listen)
        listening.addCallbacks(self._listening, self._cannot_listen)
        if self._failed:
            raise CannotStart(f"cannot listen on {self._endpoint}")

    def _listen(self) -> Any:
        return listener(self._reactor, self._socket).listen(self._factory)

    def _listening(self, port: IListeningPort) -> None:
        self._port = port
        address = port.getHost()
        self._log.info(
            "listening",
            endpoint=self._endpoint,
            host=getattr(address, "host", getattr(address, "name", None)),
            port=getattr(address, "port", None),
        )

    def _cannot_listen(self, failure: Failure) -> None:
        reason = failure.getErrorMessage()
        self._log.error("cannot_listen", endpoint=self._endpoint, reason=reason)
        self._failed = True
        # Endpoints that take their time may fail after the start.
        if self._reactor.running:
            self._reactor.stop()

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port else succeed(None)


class Drain(Service):
    """
    Finishes the exchanges under way when the server stops.

    @ivar relieved: whether another process has taken over.
    """

    relieved = False

    def __init__(self, gate: Gate, within: float, log: FilteringBoundLogger) -> None:
        """
        @param within: seconds after which what is left is closed.
        """
        self._gate = gate
        self._within = within
        self._log = log

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._log.info("draining", connections=len(self._gate.seats), within=self._within)
        return self._gate.drain(self._within, self.relieved)

    def hurry(self) -> None:
        """Close what is left now."""
        self._log.warning("hurrying", connections=len(self._gate.seats))
        self._gate.shut()


class SecondSignal(Service):
    """Lets a second signal cut short what the first one began: the end."""

    def __init__(self, reactor: Any, hurry: Callable[[], object]) -> None:
        self._reactor = reactor
        self._hurry = hurry

    def stopService(self) -> None:
        super().stopService()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._hurry))


class Signals(Service):
    """
    Takes the signals that would end the process where nobody cares for them:
    SIGHUP, which reads the configuration again, and SIGUSR1, which starts a
    new log file as it does with C{twistd}'s own.
    """

    def __init__(
        self, reactor: Any, reload: Callable[[], object], rotate: Callable[[], object]
    ) -> None:
        """
        @param reload: reads the configuration again.
        @param rotate: starts a new log file.
        """
        self._reactor = reactor
        self._reload = reload
        self._rotate = rotate

    def startService(self) -> None:
        super().startService()
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload))
        signal.signal(signal.SIGUSR1, lambda *_: self._reactor.callFromThread(self._rotate))
