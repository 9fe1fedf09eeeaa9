"""
A worker: the process. Its parent starts it, tells it all that it has to know,
and is the only one whom it heeds.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from typing import Any, cast

from twisted.internet.stdio import StandardIO
from twisted.logger import globalLogBeginner
from twisted.python.reflect import namedModule

from wow.assembly.server import build
from wow.descriptors import Sparing
from wow.doors import Door, Doors, Entrances
from wow.lifecycle import CannotStart, Ordered
from wow.logs import Observer, make_logger
from wow.workers.control import (
    FROM_PARENT,
    LOG,
    ORDERS,
    TO_PARENT,
    Brief,
    Channel,
    Inherited,
    frame,
    read_brief,
)
from wow.workers.duty import Duty
from wow.workers.lines import Outlet

_PARENTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""
Signals for the parent, which passes on what they mean. A terminal and service
supervisors send them to all processes of a server.
"""


def main() -> None:
    """Serve until the parent says otherwise, or is gone."""
    for number in _PARENTS:
        signal.signal(number, signal.SIG_IGN)
    brief = read_brief(FROM_PARENT)
    namedModule(brief.reactor).install()
    from twisted.internet import reactor

    # As in the single process; see L{wow.tap}.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    try:
        _start(brief, reactor)
    except CannotStart:
        # Why is in the log.
        sys.exit(1)
    # As in the single process; what is there now stays.
    gc.freeze()
    gc.enable()
    cast(Any, reactor).run(installSignalHandlers=False)


def _start(brief: Brief, reactor: Any) -> None:
    settings = brief.terms.settings
    outlet = Outlet(LOG, brief.terminal)
    log = make_logger(outlet, settings.log.level, settings.log.format).bind(worker=brief.number)
    observer = Sparing(Observer(log), time.monotonic)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    server = build(settings, brief.terms.keys, os.environ, reactor, log)
    doors = Doors({door.key: _door(door) for door in brief.doors})
    whole = Ordered(log)
    for part in (*server.parts, doors, server.sieve):
        part.setServiceParent(whole)
    shared = {door.key: door.shared for door in brief.doors}
    entrances = Entrances(doors, lambda key, door: server.entrance(key, door.of(0), shared[key]))
    # Begun before it can say or hear a word.
    whole.startService()
    duty = Duty(
        server,
        whole,
        entrances,
        lambda word: pipe.write(frame(word)),
        lambda: pipe.loseConnection(),
        reactor.stop,
        log,
    )
    pipe: Any = StandardIO(
        Channel(ORDERS, duty.heed, duty.orphaned),
        stdin=FROM_PARENT,  # type: ignore[call-arg]  # mypy knows that of Windows alone
        stdout=TO_PARENT,
    )
    duty.begin()


def _door(inherited: Inherited) -> Door:
    return Door((socket.socket(fileno=inherited.descriptor),))
