"""
The C{twistd} plugin: the command line, and the whole server that it stands for.

The only place that knows all rooms.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from structlog.typing import FilteringBoundLogger
from twisted.application.service import IService, Service
from twisted.python import usage
from twisted.python.logfile import LogFile as RotatedFile

from wow import __version__, config
from wow.admin.debug import Debug
from wow.admin.lock import Lock
from wow.admin.site import make_site
from wow.assembly.keys import KeyFinder
from wow.config import ConfigError, Settings
from wow.doors import DoorsToOpen, Entrances, Opener
from wow.leave import Leave, LeavingHealth
from wow.lifecycle import CannotStart, Listener, Ordered, SecondSignal, Signals
from wow.logs import LogFile, make_logger, set_level
from wow.notify import Notices
from wow.outcomes import Outcomes, ReloadingHealth
from wow.private import forbid_core_dumps
from wow.reload import Reload, together
from wow.workers.cores import cores


class Options(usage.Options):
    """The command line of C{twistd wow}."""

    synopsis = "[--config FILE]"
    longdesc = "A price on asking: proof of work in front of a TCP service."
    optParameters = (
        ["config", "c", None, "the configuration, a YAML file; without it, the defaults"],
    )

    def opt_version(self) -> None:
        """Show the version and exit."""
        sys.stdout.write(f"wow {__version__}\n")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """
        Read the configuration, before twistd starts anything.

        @raise SystemExit: if it cannot be used; what is wrong is on standard error.
        """
        try:
            self["settings"] = config.load(self["config"], os.environ)
        except ConfigError as error:
            _leave(error.problems)


def _leave(problems: Sequence[str]) -> None:
    sys.stderr.writelines(f"wow: {problem}\n" for problem in problems)
    raise SystemExit(1)


def makeService(options: Options) -> IService:
    """The whole server, as C{twistd} runs it."""
    from twisted.internet import reactor

    # Deadlines follow the time that passes, not a wall clock that may be set.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    forbid_core_dumps()
    settings: Settings = options["settings"]
    stream = _log_stream(cast(Mapping[str, Any], options.parent))
    file = LogFile(stream)
    log = make_logger(file, settings.log.level, settings.log.format)
    sys.excepthook = _explain
    reload = partial(config.load, _absolute(options["config"]), os.environ)
    rotate = getattr(stream, "rotate", lambda: None)
    workers = cores() if settings.workers == "auto" else settings.workers
    if workers == 1:
        parts = _build_alone(settings, os.environ, reactor, reload, rotate, log)
    else:
        from wow.workers.parent import build_parent

        give_up = partial(_fail, reactor)
        parts = build_parent(
            settings, workers, os.environ, reactor, reload, rotate, give_up, file, log
        )
    server = Ordered(log)
    for part in parts:
        part.setServiceParent(server)
    # What is there now stays. Left out, it makes collections so short that
    # clients do not notice them, and so frequent that a crowd's memory is free
    # soon after the crowd is gone.
    gc.freeze()
    return server


def _absolute(path: str | None) -> str | None:
    # twistd goes elsewhere when it daemonizes.
    return path and str(Path(path).absolute())


def _explain(kind: type[BaseException], error: BaseException, where: Any) -> None:
    # twistd leaves what ends a start to the interpreter, whose traceback
    # would hide the reason, which is in the log already.
    if not isinstance(error, CannotStart):
        sys.__excepthook__(kind, error, where)


def _log_stream(twistd: Mapping[str, Any]) -> Any:
    # As twistd itself does, with the stream that it is about to replace.
    name = twistd["logfile"]
    if name == "-" or (twistd["nodaemon"] and not name):
        return sys.stdout
    return RotatedFile.fromFullPath(name or "twistd.log")


def _fail(reactor: Any) -> None:
    # What runs the reactor takes no notice of how it ends.
    atexit.register(os._exit, 1)
    if reactor.running:
        reactor.stop()


def _build_alone(
    settings: Settings,
    environ: Mapping[str, str],
    reactor: Any,
    load: Callable[[], Settings],
    rotate: Callable[[], object],
    log: FilteringBoundLogger,
) -> list[Service]:
    # Not needed where others do the work, and not read in a moment.
    from wow.assembly.server import build

    keys = KeyFinder(environ, log)
    server = build(settings, keys.find(settings), environ, reactor, log)
    leave = Leave(reactor, settings.limits.leave, log)
    lock = Lock(settings.admin, environ)
    outcomes = Outcomes(server.metrics.registry, time.time)
    health = ReloadingHealth(LeavingHealth(server.health, leave), outcomes)
    debug = Debug(server.debugger.answer, 0, lambda number, query: None)
    site = make_site(server.metrics.registry, health, lock, reactor, debug)
    admin = settings.admin.endpoint
    doors = DoorsToOpen(Opener(reactor, 1, settings.limits.backlog), settings.endpoints, log)
    notices = Notices(environ, reactor, log)

    def prepare(settings: Settings) -> Callable[[], None]:
        take = server.prepare(settings)
        ring = keys.find(settings)

        def put_in_force() -> None:
            take()
            server.sign_with(ring)
            set_level(log, settings.log.level)

        return put_in_force

    reload = Reload(settings, load, together(prepare, lock.prepare), outcomes, log)
    return [
        Signals(reactor, notices.around(reload), rotate),
        Listener(reactor, admin, server.layers.over(site, "admin.listen", admin), log),
        *server.parts,
        SecondSignal(reactor, server.drain.hurry),
        doors,
        server.sieve,
        Entrances(doors, lambda key, door: server.entrance(key, door.of(0), shared=False)),
        leave,
        notices,
    ]
