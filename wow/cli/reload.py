"""
C{wow reload}: has a running server read its configuration again, and says what came of it.

A signal alone would say nothing. So the operators' site is asked which process
the server is, and after the signal until it tells of one more reload.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from wow.cli.exits import Exit
from wow.cli.health import fetch

_PAUSE = 0.1
"""Seconds from one look at the outcome to the next."""


class _Stranger(Exception):
    """The site tells no more than whether the server is well."""


def run(place: tuple[str, int], timeout: float, token: str | None = None) -> tuple[Exit, str]:
    """
    Send the signal, and wait for the outcome.

    @param place: the host and the port of the operators' site.
    @param token: C{admin.token}, if it has one.
    @param timeout: seconds for all of it.
    @return: C{DONE} if the new configuration is in force; and a sentence that
        says so, or why not.
    """
    shown = f"{place[0]}:{place[1]}"
    ends = time.monotonic() + timeout
    try:
        before = _ask(place, timeout, token)
        pid = _pid(before)
        if pid is None:
            return Exit.REFUSED, (
                f"the process of the server at {shown} is not here: run wow reload on its own "
                "machine, or in its container"
            )
        os.kill(pid, signal.SIGHUP)
        told = _wait(lambda: _ask(place, max(_PAUSE, ends - time.monotonic()), token), before, ends)
    except _Stranger:
        return Exit.REFUSED, (
            f"the site at {shown} wants to know who asks; give it what admin.token of the server "
            "names: --token file:PATH, or --token env:NAME"
        )
    except (TimeoutError, PermissionError, ProcessLookupError) as failed:
        return _failed(failed, shown, timeout)
    except OSError as failed:
        return Exit.UNREACHABLE, f"could not ask {shown}: {failed.strerror or failed}"
    except (HTTPException, LookupError, TypeError, ValueError, RecursionError):
        return Exit.NOT_WOW, f"what answers at {shown} is no operators' site of wow"
    return _outcome(told)


def _ask(place: tuple[str, int], timeout: float, token: str | None) -> dict[str, Any]:
    answer = json.loads(fetch(place, "/health/ready", timeout, token)[1])
    if isinstance(answer, dict) and answer.keys() == {"ready"}:
        raise _Stranger
    return {
        "pid": int(answer["pid"]),
        **answer["reload"],
        "number": int(answer["reload"]["number"]),
    }


def _pid(told: dict[str, Any]) -> int | None:
    """The process, if that is what it says it is: root sends signals to whomever it is told to."""
    pid: int = told["pid"]
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    twistd = any(Path(os.fsdecode(word)).name == "twistd" for word in words)
    return pid if pid > 0 and twistd and b"wow" in words else None


def _wait(ask: Callable[[], dict[str, Any]], before: dict[str, Any], ends: float) -> dict[str, Any]:
    while (told := ask())["number"] == before["number"]:
        if time.monotonic() > ends:
            raise TimeoutError
        time.sleep(_PAUSE)
    return told


def _failed(failed: OSError, shown: str, timeout: float) -> tuple[Exit, str]:
    if isinstance(failed, PermissionError):
        return Exit.REFUSED, "the server is another user's: run wow reload as that user, or as root"
    if isinstance(failed, ProcessLookupError):
        return Exit.UNREACHABLE, f"the server at {shown} has ended"
    return Exit.TIMED_OUT, f"nothing came of it within {timeout:g} seconds; see the server's log"


def _outcome(told: dict[str, Any]) -> tuple[Exit, str]:
    if told["outcome"] != "accepted":
        return Exit.REFUSED, f"refused, and nothing has changed: {told['reason']}"
    if needed := told["restart_needed"]:
        return Exit.DONE, f"reloaded; a restart is needed for {', '.join(map(str, needed))}"
    return Exit.DONE, "reloaded"
