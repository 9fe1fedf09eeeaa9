"""What a worker logs, on its way to its parent: line by line, by a pipe that nobody waits for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

_LONGEST_LINE = 2**17


class Outlet:
    """
    The worker's end: what its log is written to. When the pipe is full, as the
    parent was stopped, lines are lost, each of them whole.
    """

    def __init__(self, descriptor: int, terminal: bool) -> None:
        """
        @param terminal: whether a person reads the lines as they are written.
        """
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._terminal = terminal
        self._rest = b""

    def isatty(self) -> bool:
        """Whether a person reads it as it is written."""
        return self._terminal

    def write(self, line: str) -> None:
        """
        Write a line, or lose it.

        @raise OSError: if the parent is gone.
        """
        self._push()
        if not self._rest:
            self._rest = line.encode("utf-8", "backslashreplace")
            self._push()

    def flush(self) -> None:
        """There is nothing that could be."""

    def _push(self) -> None:
        rest, self._rest = self._rest, b""
        try:
            self._rest = rest[os.write(self._descriptor, rest) :] if rest else b""
        except BlockingIOError:
            self._rest = rest


class Lines:
    """Cuts what comes into lines, of which none is longer than it may be."""

    def __init__(self, told: Callable[[str], Any]) -> None:
        """
        @param told: is given each line.
        """
        self._told = told
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """More has come."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line)
        if len(self._rest) > _LONGEST_LINE:
            self.end()

    def end(self) -> None:
        """No more will come, or too much has."""
        rest, self._rest = self._rest, b""
        if rest:
            self._tell(rest)

    def _tell(self, line: bytes) -> None:
        self._told(line.decode("utf-8", "replace"))
