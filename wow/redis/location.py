"""Where a Redis server is, as a URL says it."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

from attrs import frozen

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")

FORMS = (
    "redis://HOST:PORT/DB, or redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB; with rediss for TLS"
)

_PORT = 6379
_SENTINEL_PORT = 26379

_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,255}")
_MASTER = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_DATABASE = re.compile(r"[0-9]{1,5}")


@frozen
class Location:
    """
    Where a Redis server is.

    @ivar servers: host and port, of the server itself or of each Sentinel.
    @ivar master: the name by which Sentinels know the server, or None if
        there are none.
    @ivar database: its number.
    @ivar user: who logs in, or None for the server's default user.
    @ivar tls: whether all connections, those to Sentinels too, are encrypted.
    """

    servers: tuple[tuple[str, int], ...]
    master: str | None
    database: int
    user: str | None
    tls: bool


def parse(url: str) -> Location:
    """
    Understand a URL.

    @raise ValueError: if it is none of L{FORMS}, or holds a password. The
        message does not repeat it.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in SCHEMES or not separator:
        raise ValueError(f"must be {FORMS}")
    if not url.isprintable() or " " in url or "?" in url or "#" in url:
        raise ValueError(f"must be {FORMS}, and nothing else")
    authority, _, path = rest.partition("/")
    user, hosts = _split_user(authority)
    sentinel = scheme.endswith("+sentinel")
    if not sentinel and "," in hosts:
        raise ValueError("names more than one server, which only Sentinels can be")
    port = _SENTINEL_PORT if sentinel else _PORT
    master, _, database = path.partition("/") if sentinel else ("", "", path)
    return Location(
        tuple(_server(host, port) for host in hosts.split(",")),
        _master(master) if sentinel else None,
        _database(database),
        user,
        scheme.startswith("rediss"),
    )


def _split_user(authority: str) -> tuple[str | None, str]:
    user, at, hosts = authority.rpartition("@")
    if not at:
        return None, hosts
    if ":" in user:
        raise ValueError("must not hold the password, which has a key of its own")
    name = unquote(user)
    if not name or not name.isprintable():
        raise ValueError("has no user before the @")
    return name, hosts


def _server(text: str, port: int) -> tuple[str, int]:
    try:
        split: SplitResult = urlsplit(f"//{text}")
        host, given = split.hostname, split.port
    except ValueError:
        raise ValueError("has a host or a port that is none") from None
    if not host or not _HOST.fullmatch(host) or given == 0:
        raise ValueError("has a host or a port that is none")
    return host, given or port


def _master(name: str) -> str:
    if not _MASTER.fullmatch(name):
        raise ValueError("does not say by what name the Sentinels know the master")
    return name


def _database(text: str) -> int:
    if text and not _DATABASE.fullmatch(text):
        raise ValueError("has a database that is not a number")
    return int(text or 0)
