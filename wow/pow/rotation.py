"""
The stages of a rotation, on a key file: pure, and careful of proofs.

A challenge must be known wherever it is handed in for as long as it is good.
So a new key is first added, as one that only verifies; promoted, when every
server knows it; and the old one is retired, when none of its challenges is
good any more.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from attrs import evolve

from wow.pow.keys import Key, KeyRing, encode, generate


class CannotRotate(Exception):
    """Proofs would be lost, or there is no such key. The message says what to do instead."""


def add(ring: KeyRing, now: datetime) -> KeyRing:
    """The same with a new key, the last, that signs nothing yet."""
    return KeyRing([*ring.keys, generate(now)])


def promote(ring: KeyRing, key_id: str, now: datetime) -> KeyRing:
    """
    Another key signs from now on.

    @raise CannotRotate: if there is none with this id, or it signs already.
    """
    chosen = _find(ring, key_id)
    if chosen is ring.signing:
        raise CannotRotate(f"key {key_id} is the one that signs already")
    others = [key for key in ring.keys[1:] if key is not chosen]
    return KeyRing([evolve(chosen, demoted=None), evolve(ring.signing, demoted=now), *others])


def retire(
    ring: KeyRing, key_id: str, now: datetime, changed: datetime, good: timedelta, force: bool
) -> KeyRing:
    """
    The same without a key.

    @param changed: when the keys were last changed. That is when it signed at
        the latest, where there is no note of it.
    @param good: for how long a challenge is.
    @param force: whether it is the operator's will that challenges are lost.
    @raise CannotRotate: if there is no key with this id, it signs, or some
        challenge that it signed may still be good.
    """
    chosen = _find(ring, key_id)
    if chosen is ring.signing:
        raise CannotRotate(
            f"key {key_id} is the one that signs: "
            "promote another, and retire this one when its challenges have expired"
        )
    wait = good - (now - (chosen.demoted or changed))
    if wait > timedelta() and not force:
        raise CannotRotate(
            f"challenges that key {key_id} has signed may be good for another "
            f"{wait.total_seconds():.0f} seconds, counted from the change of the file and not from "
            "the reload of the last server: wait until that was so long ago; or lose them, "
            "with --force"
        )
    return KeyRing(key for key in ring.keys if key is not chosen)


def write(ring: KeyRing) -> str:
    """The content of a key file."""
    return "".join(f"{encode(key)}\n" for key in ring.keys)


def _find(ring: KeyRing, key_id: str) -> Key:
    for key in ring.keys:
        if key.id.hex() == key_id.lower():
            return key
    raise CannotRotate(f"there is no key {key_id}; there are {', '.join(ring.ids())}")
