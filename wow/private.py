"""Files that hold secrets, and so are for their owner alone."""

from __future__ import annotations

import fcntl
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST = 65536
"""Bytes of a file that holds secrets, at most."""


def read_private(path: Path, lender: bool = False) -> bytes:
    """
    Read a file that nobody else can read.

    @param lender: whether this is root looking after what it lends to a group.
    @raise ValueError: if it cannot be read, others than its owner can read it,
        or it is longer than any secret. The message names it, and shows nothing of it.
    """
    try:
        with path.open("rb") as file:
            _refuse_shared(os.fstat(file.fileno()), path, lender)
            content = file.read(LONGEST + 1)
    except OSError as failed:
        raise ValueError(f"{path} cannot be read: {failed.strerror}") from None
    if len(content) > LONGEST:
        raise ValueError(f"{path} is too long; {LONGEST} bytes are the most")
    return content


def _refuse_shared(status: os.stat_result, path: Path, lender: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a file")
    # PostgreSQL's rule for its key: private to us, or root's and lent to our
    # group, as Kubernetes and systemd hand out secrets.
    lent = status.st_uid == 0 and (os.geteuid() != 0 or lender)
    refused = stat.S_IRWXO | (stat.S_IWGRP if lent else stat.S_IRWXG)
    if stat.S_IMODE(status.st_mode) & refused:
        raise ValueError(f"{path} can be read by others than its owner; run: chmod 600 {path}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """
    Keep others who do the same from changing a file meanwhile. Waits for them.

    @raise OSError: if its folder cannot be read.
    """
    # The folder, since the file itself is about to be another one.
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_private(path: Path, content: bytes) -> None:
    """
    Put another file in the place of one, with the same owner and mode. Whoever
    reads it meanwhile, or after a crash, finds the old content or the new one.

    @param path: no link, and L{locked}.
    @raise OSError: if that is not possible. Then the old one is still there.
    """
    before = path.stat()
    new = path.with_name(f".{path.name}.new")
    # What a crash may have left.
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123, it is open
            os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        new.rename(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Not all file systems have that for folders.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forbid_core_dumps() -> None:
    """
    Have the kernel keep no image of this process, nor of those that it starts,
    when it ends by a fault: all secrets are in it.
    """
    # At 1, no core is handed to a program either (core(5)); at 0, one is.
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most if most == 0 else 1, most))
