"""Secrets that the configuration names and does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from wow.private import read_private


def _from_file(path: str, environ: Mapping[str, str]) -> str:
    try:
        return read_private(Path(path)).decode().strip()
    except UnicodeDecodeError:
        # Its own words would show what it read.
        raise ValueError(f"{path} is not text") from None


def _from_credential(name: str, environ: Mapping[str, str]) -> str:
    return _from_file(str(Path(environ["CREDENTIALS_DIRECTORY"]) / name), environ)


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    return environ[name]


_PLACES: dict[str, Callable[[str, Mapping[str, str]], str]] = {
    "env": _from_environment,
    "file": _from_file,
    "credential": _from_credential,
}


def reveal(value: str, environ: Mapping[str, str]) -> str:
    """
    A value as it stands, or the secret that it names.

    @param value: C{env:NAME}, C{file:PATH}, C{credential:NAME}, or the value itself.
    @raise ValueError: if there is no such secret, or others than the owner of
        its file can read it; the message does not show it.
    """
    kind, _, name = value.partition(":")
    if kind not in _PLACES:
        return value
    try:
        secret = _PLACES[kind](name, environ)
    except KeyError as missing:
        raise ValueError(f"there is no secret at {value}: {missing.args[0]} is not set") from None
    except ValueError as bad:
        raise ValueError(f"there is no secret at {value}: {bad}") from None
    if not secret or not secret.isprintable():
        raise ValueError(f"the secret at {value} is empty or not one line of text")
    return secret


def names_secret(value: str) -> bool:
    """Whether a value says where a secret is, and so is none itself."""
    return value.partition(":")[0] in _PLACES
