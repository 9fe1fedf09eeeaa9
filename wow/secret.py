"""Secrets that the configuration names and does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path


def _from_file(path: str, environ: Mapping[str, str]) -> str:
    return Path(path).read_text().strip()


def _from_credential(name: str, environ: Mapping[str, str]) -> str:
    return (Path(environ["CREDENTIALS_DIRECTORY"]) / name).read_text().strip()


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
    @raise ValueError: if there is no such secret; the message does not show it.
    """
    kind, _, name = value.partition(":")
    if kind not in _PLACES:
        return value
    try:
        secret = _PLACES[kind](name, environ)
    except (KeyError, OSError, ValueError) as missing:
        raise ValueError(f"there is no secret at {value} ({type(missing).__name__})") from None
    if not secret or not secret.isprintable():
        raise ValueError(f"the secret at {value} is empty or not one line of text")
    return secret


def names_secret(value: str) -> bool:
    """Whether a value says where a secret is, and so is none itself."""
    return value.partition(":")[0] in _PLACES
