"""
How the C{wow} command ends: its exit codes, and its words to the user.
"""

from __future__ import annotations

import sys
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes, those over 128 as a shell reports the signal of that number less 128."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    TOO_EXPENSIVE = 4
    TIMED_OUT = 5
    NOT_WOW = 6
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXPLAINED = """\
exit codes:
  0    done
  1    refused by the server, or not possible; the message says why
  2    the command line is wrong
  3    could not connect, or the connection was lost
  4    the server asks for more work than --max-effort
  5    out of time, see --timeout
  6    what answers does not speak the wow protocol
  130  interrupted (Ctrl-C); 143 terminated; 141 nobody reads the output
"""


def printable(text: str) -> str:
    """
    A stranger's text on one line, with nothing that a terminal would act on.

    White space becomes one space. All else that is invisible becomes an
    escape: control characters, and those that turn the direction of writing.
    """
    return "".join(map(_visible, " ".join(text.split())))


def complain(text: str) -> None:
    """Say on standard error what is wrong, on one line."""
    sys.stderr.write(f"wow: {printable(text)}\n")


def put(line: str) -> None:
    """
    Put out a line now, whoever reads it.

    @raise OSError: if it cannot be written.
    """
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _visible(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
