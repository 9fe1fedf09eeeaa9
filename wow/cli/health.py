"""
C{wow health}: asks the operators' site of a server whether it is well.

Health checks of containers run it every few seconds, so it imports next to nothing.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Any

from wow.cli.exits import Exit

_LONGEST = 65536
"""Bytes of an answer that are looked at."""


def ask(place: tuple[str, int], page: str, timeout: float) -> tuple[Exit, str]:
    """
    Ask once, and wait for the answer.

    @param place: the host and the port of the operators' site.
    @param page: C{"live"} or C{"ready"}.
    @param timeout: seconds for each step.
    @return: C{DONE} if all is well; and a sentence that says what is, or is not.
    """
    shown = f"{place[0]}:{place[1]}"
    try:
        status, body = fetch(place, f"/health/{page}", timeout)
        answer = json.loads(body)
    except TimeoutError:
        return Exit.TIMED_OUT, f"no answer from {shown} within {timeout:g} seconds"
    except OSError as failed:
        return Exit.UNREACHABLE, f"could not ask {shown}: {failed.strerror or failed}"
    except (HTTPException, ValueError, RecursionError):
        return Exit.NOT_WOW, f"what answers at {shown} is no operators' site of wow"
    if status == 200:
        return Exit.DONE, page
    return Exit.REFUSED, f"not {page}: {_reasons(answer) or f'status {status}'}"


def fetch(
    place: tuple[str, int], path: str, timeout: float, token: str | None = None
) -> tuple[int, bytes]:
    """
    Get a page of the operators' site.

    @param token: C{admin.token}, which some pages are for.
    @return: the status, and the beginning of the body.
    @raise OSError: if it cannot be reached, a L{TimeoutError} if it takes its time.
    @raise HTTPException: if what answers does not speak HTTP.
    """
    connection = HTTPConnection(*place, timeout=timeout)
    try:
        shown = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection.request("GET", path, headers={"Connection": "close", **shown})
        response = connection.getresponse()
        return response.status, response.read(_LONGEST)
    finally:
        connection.close()


def _reasons(answer: Any) -> str:
    if answer == {"ready": False}:
        return "why is told to whoever shows admin.token"
    reasons = answer.get("reasons") if isinstance(answer, dict) else None
    if not isinstance(reasons, dict):
        return ""
    return "; ".join(f"{part}: {reason}" for part, reason in reasons.items())
