"""
The puzzle: find, for each round, a nonce whose hash is small enough.

The work function is C{sha256} of the protocol, section 3: hashcash
(U{http://www.hashcash.org/papers/hashcash.pdf}) with a target in place of a
count of zero bits, so that the effort can be any number.

Run as a script, this module searches for its parent process. It therefore
imports nothing beyond the standard library's lightest parts.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from hashlib import sha256

NONCES = 2**53
"""Nonces are below this: the integers that every JSON parser reads exactly."""

_MEASURED = 8
# What is compared with the target is the digest's first 8 bytes; the target
# with the largest possible rest behind it orders whole digests the same way,
# and comparing bytes costs less than making integers of them.
_REST = b"\xff" * (sha256().digest_size - _MEASURED)


def target(round_effort: int) -> int:
    """
    The largest first 8 bytes of a digest, as an integer, that solve a round.

    @param round_effort: the expected number of hashes for one round, at least 1.
    """
    return (2**64 - 1) // round_effort


def check(token: str, nonces: Sequence[int], target: int) -> bool:
    """
    Whether the nonces solve their rounds, nonce C{i} round C{i}.

    True only when every nonce given was hashed and none missed, so never for
    an empty list. That there is a nonce for each round of the challenge, and
    that each is an integer in the protocol's range, is for the caller to see to.

    @param target: from L{target}, never from a client.
    """
    limit = _limit(target)
    copy = sha256(token.encode() + b":").copy
    for numbered in enumerate(nonces):
        digest = copy()
        digest.update(b"%d:%d" % numbered)
        if digest.digest() > limit:
            return False
    return len(nonces) > 0


def search(token: str, round_index: int, target: int, start: int, count: int) -> int | None:
    """
    Try nonces one after the other.

    @param start: the first nonce to try.
    @param count: how many to try.
    @return: the smallest among them that solves the round, or None.
    """
    limit = _limit(target)
    copy = sha256(b"%b:%d:" % (token.encode(), round_index)).copy
    for nonce in range(start, start + count):
        digest = copy()
        digest.update(b"%d" % nonce)
        if digest.digest() <= limit:
            return nonce
    return None


def _limit(target: int) -> bytes:
    return target.to_bytes(_MEASURED, "big") + _REST


def _search_for_parent() -> None:
    # A terminal's Ctrl-C reaches every process in the foreground. The parent
    # decides what it means and ends this process; and should the parent end
    # without doing so, its end of the pipe closes and the loop is over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        token, *numbers = line.split()
        nonce = search(token, *map(int, numbers))
        sys.stdout.write("-\n" if nonce is None else f"{nonce}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _search_for_parent()
