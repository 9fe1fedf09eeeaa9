"""
The key ring: the first key signs, all verify.

So a key can be rotated without losing a proof: add the new key on every
server, put it first, and take the old one out when its tokens have expired.

A key is written in base64. After it may come notes on its life, for whoever
rotates it: C{created:2026-01-31T12:00:00Z}, C{demoted:2026-07-31T12:00:00Z}.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from attrs import evolve, field, frozen

from wow.private import read_private

KEY_BYTES = 32
"""The shortest secret accepted, and the length of those made here."""


_TIME = "%Y-%m-%dT%H:%M:%SZ"


class BadKey(ValueError):
    """A key or a key file cannot be used. The message names it and never shows it."""


@frozen
class Key:
    """
    One secret of the server's.

    @ivar secret: at least L{KEY_BYTES} bytes, never shown.
    @ivar created: when it was made, if that is known.
    @ivar demoted: when another took its place as the one that signs, if that is known.
    @ivar id: the 4 bytes by which a token names its key.
    """

    secret: bytes = field(repr=False)
    created: datetime | None = field(default=None, eq=False)
    demoted: datetime | None = field(default=None, eq=False)
    id: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "id", sha256(b"wow/key-id/v1\x00" + self.secret).digest()[:4])


class KeyRing:
    """
    The keys in force.

    @ivar keys: all of them, the signing one first.
    @ivar signing: the key that signs new tokens.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        """
        @raise BadKey: if there is none, or two that a token could not tell apart.
        """
        self.keys = tuple(keys)
        if not self.keys:
            raise BadKey("there is no key")
        self.signing = self.keys[0]
        self._secrets = {key.id: key.secret for key in self.keys}
        if len(self._secrets) < len(self.keys):
            raise BadKey("two keys have the same id: is one of them there twice?")

    def secret(self, key_id: bytes) -> bytes | None:
        """The secret of the key with this id, or None."""
        return self._secrets.get(key_id)

    def ids(self) -> list[str]:
        """The ids in hex, the signing key's first. Fit to be shown."""
        return [key_id.hex() for key_id in self._secrets]


def generate(now: datetime | None = None) -> Key:
    """
    A new random key.

    @param now: with its zone, to be noted as the time when it was made.
    """
    return Key(secrets.token_bytes(KEY_BYTES), created=now)


def encode(key: Key) -> str:
    """The key as a line of a key file."""
    times = ((note, getattr(key, note)) for note in _NOTES)
    notes = (
        f"{note}:{time.astimezone(UTC).strftime(_TIME)}" for note, time in times if time is not None
    )
    return " ".join((base64.b64encode(key.secret).decode("ascii"), *notes))


def parse(text: str, name: str) -> KeyRing:
    """
    Read keys separated by white space, in base64 of either alphabet.

    @param name: where the text came from, for messages.
    @raise BadKey: if one is not base64 or too short, a note on one cannot be
        read, or there is none.
    """
    ring: list[Key] = []
    try:
        for word in text.split():
            # No base64 has a colon.
            if ":" in word and ring:
                ring[-1] = _note(ring[-1], word, f"key {len(ring)} of {name}")
            else:
                ring.append(_parse_key(word, f"key {len(ring) + 1} of {name}"))
        return KeyRing(ring)
    except BadKey as bad:
        raise bad if name in str(bad) else BadKey(f"{name}: {bad}") from None


_NOTES = ("created", "demoted")


def _note(key: Key, word: str, name: str) -> Key:
    note, _, text = word.partition(":")
    # The word is not repeated: perhaps it was to be a key.
    if note not in _NOTES or getattr(key, note) is not None:
        raise BadKey(f"{name} has a note that is neither created: nor demoted:, or one twice")
    try:
        time = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise BadKey(f"{name}: {note}: needs a time such as 2026-01-31T12:00:00Z") from None
    return evolve(key, created=time) if note == "created" else evolve(key, demoted=time)


def _parse_key(word: str, name: str) -> Key:
    standard = word.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        secret = binascii.a2b_base64(standard + "=" * (-len(standard) % 4), strict_mode=True)
    except ValueError:
        raise BadKey(f"{name} is not base64; `wow keygen` writes one that is") from None
    if len(secret) < KEY_BYTES:
        raise BadKey(f"{name} is {len(secret)} bytes long; at least {KEY_BYTES} are needed")
    return Key(secret)


def read(path: Path, lender: bool = False) -> KeyRing:
    """
    Read a key file: one key a line.

    @param lender: see L{read_private}.
    @raise BadKey: if it cannot be read, others than its owner can read it, or
        one of its keys is bad.
    """
    try:
        content = read_private(path, lender)
    except ValueError as bad:
        raise BadKey(str(bad)) from None
    try:
        return parse(content.decode("ascii"), str(path))
    except UnicodeDecodeError:
        raise BadKey(f"{path} is no key file: it holds more than base64") from None


def find(file: Path | None, environ: Mapping[str, str]) -> KeyRing | None:
    """
    The keys that the operator gave, or None if there are none.

    Looked for in this order: the file of the configuration; C{WOW_KEYS} in
    the environment; C{keys} in systemd's C{$CREDENTIALS_DIRECTORY}.

    @raise BadKey: if keys were given that cannot be used, empty ones among them.
    """
    if file is not None:
        return read(file)
    if "WOW_KEYS" in environ:
        return parse(environ["WOW_KEYS"], "WOW_KEYS")
    if "CREDENTIALS_DIRECTORY" in environ:
        return _find_credential(Path(environ["CREDENTIALS_DIRECTORY"]))
    return None


def _find_credential(directory: Path) -> KeyRing | None:
    credential = directory / "wow.keys"
    try:
        credential.stat()
    except FileNotFoundError:
        return None
    except OSError as failed:
        raise BadKey(f"{credential} cannot be read: {failed.strerror}") from None
    return read(credential)
