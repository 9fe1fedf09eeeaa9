"""
Bearer tokens: what one is, and how a request shows it (RFC 6750). Browsers show
none, but ask for a password and show that (RFC 7617): the token will do.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence

SHORTEST = 16
"""Characters; too many for guessing, if they are random."""

_FORM = r"[A-Za-z0-9._~+/-]+=*"
_SHOWN = re.compile(rb"bearer +(" + _FORM.encode() + rb")", re.IGNORECASE)
_TYPED = re.compile(rb"basic +([A-Za-z0-9+/]+=*)", re.IGNORECASE)


def check(token: str) -> None:
    """
    See whether a token can be shown, and is long enough not to be guessed.

    @raise ValueError: if not. The message says why, and does not show it.
    """
    if len(token) < SHORTEST:
        raise ValueError(
            f"has {len(token)} characters, and it takes {SHORTEST} or more that nobody can guess; "
            "`head -c 32 /dev/urandom | base64` writes some"
        )
    if re.fullmatch(_FORM, token) is None:
        raise ValueError(
            "can have letters, digits and -._~+/ alone, and = at its end; "
            "`head -c 32 /dev/urandom | base64` writes such"
        )


def shown(headers: Sequence[bytes]) -> bytes | None:
    """
    The token that a request shows.

    @param headers: the values of all its headers named C{Authorization}.
    @return: None if there is none, or none to be sure of.
    """
    if len(headers) != 1:
        return None
    found = _SHOWN.fullmatch(headers[0])
    return found[1] if found else _typed(headers[0])


def _typed(header: bytes) -> bytes | None:
    found = _TYPED.fullmatch(header)
    try:
        _, colon, password = b64decode(found[1] if found else b"").partition(b":")
    except ValueError:
        return None
    return password if colon else None
