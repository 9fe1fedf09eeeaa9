"""How asking for something by HTTP fails, told so that anybody may read it."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.python.failure import Failure

# Errors that know of addresses and certificates at most; any other may quote
# the request, and so is told by its name alone.
_TELLABLE = (ConnectError, DNSLookupError, SSL.Error)


class HttpFailed(Exception):
    """
    There was no answer, or none of use. The message is a short reason for
    whoever runs the server. It never holds anything of the request, since that
    may carry a secret, nor anything of the answer, since that may repeat it.
    """


def describe(failure: Failure) -> str:
    """A short reason, with nothing secret in it."""
    error: Any = failure.value
    if isinstance(error, HttpFailed):
        return str(error)
    while reasons := getattr(error, "reasons", None):
        error = reasons[0].value
    name = type(error).__name__
    reason = f"{name}: {error}" if isinstance(error, _TELLABLE) else name
    return reason[:200]
