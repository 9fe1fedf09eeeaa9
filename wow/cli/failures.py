"""
What can go wrong with asking without a fault of ours: an exit code, and what to do.
"""

from __future__ import annotations

from twisted.internet import defer, error

from wow.cli.exits import Exit
from wow.client import ProtocolError, TooExpensive
from wow.errors import Refused
from wow.pow.search import SolverFailed

_LONGEST = 500

_TOO_SLOW = " Ask again; more processes would solve it sooner."
_ADVICE = {
    "expired": _TOO_SLOW,
    "timeout": _TOO_SLOW,
    "invalid_challenge": " Ask again; did this machine's address change on the way?",
    "internal": " The server's own log says more.",
}


def explain(failed: BaseException | None, place: str) -> tuple[Exit, str] | None:
    """
    The exit code, and a sentence for the user.

    @param place: the server's endpoint as the user gave it.
    @return: None for what should not happen, which deserves its traceback.
    """
    return _explain_refusal(failed) or _explain_connection(failed, place)


def _explain_refusal(failed: BaseException | None) -> tuple[Exit, str] | None:
    match failed:
        case Refused():
            message = f"{failed.message[:_LONGEST]}{_advice(failed)}"
            return Exit.REFUSED, f"the server refused ({failed.code}): {message}"
        case TooExpensive():
            return Exit.TOO_EXPENSIVE, f"{failed}; to pay that, give --max-effort {failed.effort}"
        case SolverFailed():
            return Exit.REFUSED, f"the puzzle could not be solved: {failed}"
    return None


def _advice(refused: Refused) -> str:
    if refused.retry_after is not None and refused.retry_after > 0:
        return f" Try again in {refused.retry_after:g} s."
    return _ADVICE.get(refused.code, "")


def _explain_connection(failed: BaseException | None, place: str) -> tuple[Exit, str] | None:
    match failed:
        case defer.TimeoutError():
            return Exit.TIMED_OUT, f"{failed} from {place}; --timeout gives it more"
        case ProtocolError():
            return Exit.NOT_WOW, f"what answers at {place} is no wow server: {failed}"
        case OverflowError():
            return Exit.USAGE, f"{place} has no such port: there are 1 to 65535"
        case error.ConnectionRefusedError():
            return Exit.UNREACHABLE, f"connection refused: is the server running at {place}?"
        case error.DNSLookupError():
            return Exit.UNREACHABLE, f"the host of {place} cannot be found: is its name right?"
        case error.ConnectError():
            return Exit.UNREACHABLE, f"could not connect to {place}: {failed}"
        case error.ConnectionClosed():
            return Exit.UNREACHABLE, f"the connection to {place} ended before the answer: {failed}"
    return None
