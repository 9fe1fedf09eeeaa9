"""
The key ring: the first key signs, all verify.

So a key can be rotated without losing a proof: add the new key on every
server, put it first, and take the old one out when its tokens have expired.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from attrs import field, frozen

from wow.private import read_private

KEY_BYTES = 32
"""The shortest secret accepted, and the length of those made here."""


class BadKey(ValueError):
    """A key or a key file cannot be used. The message names it and never shows it."""


@frozen
class Key:
    """
    One secret of the server's.

    @ivar secret: at least L{KEY_BYTES} bytes, never shown.
    @ivar id: the 4 bytes by which a token names its key.
    """

    secret: bytes = field(repr=False)
    id: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "id", sha256(b"wow/key-id/v1\x00" + self.secret).digest()[:4])


class KeyRing:
    """
    The keys in force.

    @ivar signing: the key that signs new tokens.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        """
        @raise BadKey: if there is none, or two that a token could not tell apart.
        """
        ring = list(keys)
        if not ring:
            raise BadKey("there is no key")
        self.signing = ring[0]
        self._secrets = {key.id: key.secret for key in ring}
        if len(self._secrets) < len(ring):
            raise BadKey("two keys have the same id: is one of them there twice?")

    def secret(self, key_id: bytes) -> bytes | None:
        """The secret of the key with this id, or None."""
        return self._secrets.get(key_id)

    def ids(self) -> list[str]:
        """The ids in hex, the signing key's first. Fit to be shown."""
        return [key_id.hex() for key_id in self._secrets]


def generate() -> Key:
    """A new random key."""
    return Key(secrets.token_bytes(KEY_BYTES))


def encode(key: Key) -> str:
    """The key as a line of a key file."""
    return base64.b64encode(key.secret).decode("ascii")


def parse(text: str, name: str) -> KeyRing:
    """
    Read keys separated by white space, in base64 of either alphabet.

    @param name: where the text came from, for messages.
    @raise BadKey: if one is not base64 or too short, or there is none.
    """
    try:
        return KeyRing(
            _parse_key(word, f"key {number} of {name}")
            for number, word in enumerate(text.split(), start=1)
        )
    except BadKey as bad:
        raise bad if name in str(bad) else BadKey(f"{name}: {bad}") from None


def _parse_key(word: str, name: str) -> Key:
    standard = word.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        secret = binascii.a2b_base64(standard + "=" * (-len(standard) % 4), strict_mode=True)
    except ValueError:
        raise BadKey(f"{name} is not base64; `wow keygen` writes one that is") from None
    if len(secret) < KEY_BYTES:
        raise BadKey(f"{name} is {len(secret)} bytes long; at least {KEY_BYTES} are needed")
    return Key(secret)


def read(path: Path) -> KeyRing:
    """
    Read a key file: one key a line.

    @raise BadKey: if it cannot be read, others than its owner can read it, or
        one of its keys is bad.
    """
    try:
        content = read_private(path)
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
