"""Sockets on loopback, from any of its addresses."""

from __future__ import annotations

import errno
import resource
import socket
import struct
from collections.abc import Iterator

_RESET = struct.pack("ii", 1, 0)
# From Linux's <linux/in.h>; the socket module lacks it before Python 3.12.
_IP_BIND_ADDRESS_NO_PORT = 24
_UNDER_WAY = (0, errno.EINPROGRESS)


def begin(
    port: int, source: str, *, reset: bool = False, receive_buffer: int | None = None
) -> socket.socket:
    """
    Begin to connect to a port of 127.0.0.1, without waiting.

    @param source: the address to come from.
    @param reset: whether closing the socket resets the connection, which
        leaves nothing behind; else its port stays in use for a minute.
    @param receive_buffer: bytes that the kernel is to keep unread.
    @raise OSError: if it cannot be begun.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # The port is chosen when connecting, so one can be used towards
        # several addresses.
        made.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        if reset:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.bind((source, 0))
        failed = made.connect_ex(("127.0.0.1", port))
        if failed not in _UNDER_WAY:
            raise OSError(failed, "connect")
    except OSError:
        made.close()
        raise
    return made


def addresses() -> Iterator[str]:
    """Addresses of loopback, so many that what is limited for each of them is out of the way."""
    while True:
        for number in range(60_000):
            yield f"127.0.{1 + number // 250}.{1 + number % 250}"


def raise_file_limit() -> int:
    """
    Let this process, and those that it will start, open as many files as they may.

    @return: how many.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def need_files(count: int) -> None:
    """
    Let this process, and those that it will start, open so many files.

    @raise OSError: if they must not.
    """
    most = raise_file_limit()
    if most < count:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
        except ValueError:
            text = f"{count} files must be open at a time, and {most} may be: ulimit -Hn {count}"
            raise OSError(errno.EMFILE, text) from None
