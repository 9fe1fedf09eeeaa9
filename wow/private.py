"""Files that hold secrets, and so are for their owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_LONGEST = 65536


def read_private(path: Path) -> bytes:
    """
    Read a file that nobody else can read.

    @raise ValueError: if it cannot be read, others than its owner can read it,
        or it is longer than any secret. The message names it, and shows nothing of it.
    """
    try:
        with path.open("rb") as file:
            _refuse_shared(os.fstat(file.fileno()), path)
            content = file.read(_LONGEST + 1)
    except OSError as failed:
        raise ValueError(f"{path} cannot be read: {failed.strerror}") from None
    if len(content) > _LONGEST:
        raise ValueError(f"{path} is too long for a key file")
    return content


def _refuse_shared(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a file")
    # PostgreSQL's rule for its key: private to us, or root's and lent to our
    # group, as Kubernetes and systemd hand out secrets.
    lent = status.st_uid == 0 and os.geteuid() != 0
    refused = stat.S_IRWXO | (stat.S_IWGRP if lent else stat.S_IRWXG)
    if stat.S_IMODE(status.st_mode) & refused:
        raise ValueError(f"{path} can be read by others than its owner; run: chmod 600 {path}")
