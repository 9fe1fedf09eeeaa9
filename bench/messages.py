"""The bytes that travel, made and read at the least cost: what loads and attacks are made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

Message = dict[str, Any]

_KIND = re.compile(rb'"type":"(\w+)"(?:,"code":"(\w+)")?')


def framed(body: bytes) -> bytes:
    """A body with its length before it."""
    return len(body).to_bytes(4, "big") + body


REQUEST = framed(b'{"type":"request"}')


def solution(token: str, nonces: Iterable[int]) -> bytes:
    """A framed solution."""
    numbers = ",".join(map(str, nonces))
    text = f'{{"type":"solution","challenge":"{token}","nonces":[{numbers}]}}'
    return framed(text.encode())


def split(buffer: bytearray) -> Iterator[bytes]:
    """Take the complete frames, without their lengths, out of what was received."""
    while len(buffer) >= 4:
        end = 4 + int.from_bytes(buffer[:4], "big")
        if len(buffer) < end:
            return
        frame = bytes(buffer[4:end])
        del buffer[:end]
        yield frame


def kind(frame: bytes) -> str:
    """What a frame of the server's is: C{challenge}, C{quote}, or the code of an error."""
    found = _KIND.search(frame)
    if found is None:
        return "unknown"
    return (found[2] or found[1]).decode()


def read(frame: bytes) -> Message:
    """A frame as a message."""
    message: Message = json.loads(frame)
    return message
