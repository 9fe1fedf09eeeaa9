"""
What it costs to be refused: the server's CPU and the sender's, for each kind of refusal.

Each kind is sent on a connection of its own, from addresses enough to stay
within every rate, or, for those turned away, from one that is over it.

    python -m bench.refusals [--count N]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from itertools import islice, repeat

from bench import servers, usage
from bench.messages import framed
from bench.servers import Server
from bench.talk import REQUEST

_AT_ONCE = 16
_TOKEN = "A" * 98
_SOLUTION = framed(b'{"type":"solution","challenge":"%b","nonces":[1]}' % _TOKEN.encode())

MESSAGES = {
    "served a challenge": REQUEST,
    "malformed: not JSON": framed(b"x" * 100),
    "malformed: 4 KiB of brackets": framed(b"[" * 4096),
    "malformed: 4 KiB of digits": framed(b'{"type":"solution","nonces":[' + b"9" * 4066 + b"]"),
    "frame_too_large": (2**31).to_bytes(4, "big"),
    "unknown_resource": framed(b'{"type":"request","resource":"riches"}'),
    "invalid_challenge": _SOLUTION,
}

_LIMITS = {"WOW_LIMITS__FAILURE_RATE": "0.001", "WOW_LIMITS__SIEVE_RATE": "1000000"}
"""Whoever is turned away stays so, and the kernel does not help."""


def _exchange(port: int, sources: list[str], message: bytes) -> None:
    # Side by side, so that the server is not woken for each, which costs more.
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.socket()) for _ in sources]
        for connection, source in zip(connections, sources, strict=True):
            connection.bind((source, 0))
            connection.connect(("127.0.0.1", port))
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(message)
        for connection in connections:
            with contextlib.suppress(ConnectionResetError):
                connection.recv(4096)


def _sources() -> Iterator[str]:
    while True:
        for number in range(60_000):
            yield f"127.{1 + number // 200}.{1 + number % 200}.1"


def measure(
    server: Server, count: int, sources: Iterator[str], message: bytes
) -> tuple[float, float]:
    """Microseconds of CPU for each, the server's and the sender's."""
    ours, theirs = time.process_time(), usage.cpu(server.pid)
    for _ in range(count // _AT_ONCE):
        _exchange(server.port, list(islice(sources, _AT_ONCE)), message)
    return (usage.cpu(server.pid) - theirs) / count * 1e6, (
        time.process_time() - ours
    ) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of a refusal, the server's and the sender's.")
    parser.add_argument("--count", type=int, default=5000, help="of each kind")
    count = parser.parse_args().count
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    with servers.wow({cores[-1]}, **_LIMITS) as server:
        print(f"{'':32}{'server':>10}{'sender':>10}")
        for name, message in MESSAGES.items():
            _show(name, *measure(server, count, _sources(), message))
        one = repeat("127.255.0.1")
        measure(server, 100, one, framed(b"x"))
        _show("turned away", *measure(server, count, one, b""))


def _show(name: str, server: float, sender: float) -> None:
    print(f"{name:32}{server:>7.1f} us{sender:>7.1f} us")


if __name__ == "__main__":
    main()
