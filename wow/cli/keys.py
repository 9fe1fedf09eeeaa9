"""
C{wow keys}: lists the keys of a key file, and takes them through a rotation.
"""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from wow.cli.exits import Exit, complain, put
from wow.config import ConfigError, Pow, Settings, load
from wow.pow import keys, rotation
from wow.pow.keys import BadKey, KeyRing
from wow.pow.rotation import CannotRotate
from wow.private import LONGEST, locked, replace_private

Change = Callable[[KeyRing, datetime, datetime], KeyRing]
"""Makes other keys of those that there are, by the time of now, and that of their last change."""

_MOUNT = (errno.EROFS, errno.EBUSY)
"""What a file says that somebody has mounted, when it is to be replaced."""


class _Refused(Exception):
    """What was asked for is not done. The message says why, and what to do."""


def run(options: argparse.Namespace) -> int:
    """
    Do what the command line asks for.

    @param options: has C{action}, C{file}, C{config}, and what the action needs.
    """
    try:
        _ACTIONS[options.action](options)
    except (_Refused, BadKey, CannotRotate) as refused:
        complain(str(refused))
    except ConfigError as wrong:
        for problem in wrong.problems:
            complain(problem)
    else:
        return Exit.DONE
    return Exit.REFUSED


def _list(options: argparse.Namespace) -> None:
    for line in table(_read(_path(options)), _now()):
        put(line)


def table(ring: KeyRing, now: datetime) -> Iterator[str]:
    """What may be shown of keys, a line each."""
    yield f"{'id':8}  {'role':8}  {'made':14}  demoted"
    for key in ring.keys:
        role = "signs" if key is ring.signing else "verifies"
        line = f"{key.id.hex():8}  {role:8}  {_ago(key.created, now):14}  "
        yield (line + ("" if key.demoted is None else _ago(key.demoted, now))).rstrip()


def _ago(then: datetime | None, now: datetime) -> str:
    if then is None:
        return "unknown"
    seconds = int((now - then).total_seconds())
    if seconds < 0:
        return "in the future"
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} seconds ago"


def _add(options: argparse.Namespace) -> None:
    path = _path(options)
    ring = _change(path, lambda ring, now, changed: rotation.add(ring, now))
    added = ring.keys[-1].id.hex()
    put(f"Key {added} is in {path}, and signs nothing yet. Next: give all servers this file,")
    put(f"reload them, and then: wow keys promote {added}")


def _promote(options: argparse.Namespace) -> None:
    path = _path(options)
    ring = _change(path, lambda ring, now, changed: rotation.promote(ring, options.id, now))
    new, old = ring.ids()[:2]
    put(f"Key {new} signs in {path}. Next: give all servers this file, reload them, wait")
    put(f"until challenges have expired (pow.ttl + pow.skew), and then: wow keys retire {old}")


def _retire(options: argparse.Namespace) -> None:
    path, good = _path(options), _good(options)
    _change(
        path,
        lambda ring, now, changed: rotation.retire(
            ring, options.id, now, changed, good, options.force
        ),
    )
    put(
        f"Key {options.id} is no more in {path}. Next: give all servers this file, and reload them."
    )


_ACTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "list": _list,
    "add": _add,
    "promote": _promote,
    "retire": _retire,
}


def _path(options: argparse.Namespace) -> Path:
    named: Path | None = options.file or _settings(options).keys.file
    if named is None:
        raise _Refused(
            "the configuration names no key file: name it with --file, or with --config "
            "a configuration that has keys.file"
        )
    # As a rule what Kubernetes mounts is a link.
    return named.resolve()


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, os.environ)


def _good(options: argparse.Namespace) -> timedelta:
    asked = options.config is not None or options.file is None
    times = _settings(options).pow if asked else Pow()
    return timedelta(seconds=times.ttl + times.skew)


def _read(path: Path) -> KeyRing:
    return keys.read(path, lender=True)


def _change(path: Path, change: Change) -> KeyRing:
    try:
        with locked(path):
            changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            ring = change(_read(path), _now(), changed)
            content = rotation.write(ring).encode("ascii")
            if len(content) > LONGEST:
                raise _Refused(f"{path} has too many keys: retire those that nobody needs")
            replace_private(path, content)
    except OSError as failed:
        hint = "; it is mounted: change a copy, with --file" if failed.errno in _MOUNT else ""
        raise _Refused(f"{path} cannot be changed: {failed.strerror}{hint}") from None
    return ring


def _now() -> datetime:
    return datetime.now(UTC)
