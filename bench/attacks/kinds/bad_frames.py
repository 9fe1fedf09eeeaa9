"""Frames that are no messages, among them those that cost a JSON parser most."""

from __future__ import annotations

from itertools import cycle
from random import Random

from bench import messages
from bench.attacks.attack import Attack
from bench.attacks.swarm import AGAIN, Link, Swarm

_CONNECTIONS = 200
_LONGEST = 4096


def _fill(start: bytes, middle: bytes, end: bytes) -> bytes:
    """A body of the longest length, or nearly."""
    return start + middle * ((_LONGEST - len(start) - len(end)) // len(middle)) + end


def _bodies() -> dict[str, bytes]:
    solution = b'{"type":"solution","challenge":"A","nonces":['
    keys = b",".join(b'"k%d":0' % number for number in range(420))
    return {
        "not JSON": b'{"type":',
        "rubbish": Random(1).randbytes(_LONGEST),
        "not UTF-8": _fill(b'{"type":"', b"\xff", b'"}'),
        "nested lists": b"[" * _LONGEST,
        "nested objects": _fill(b"", b'{"a":', b""),
        "nested and closed": b"[" * 2000 + b"]" * 2000,
        "many fields": b'{"type":"request",%b}' % keys,
        "one field again and again": _fill(
            b'{"type":"request"', b',"resource":"quote"', b',"x":0}'
        ),
        "many nonces, the last wrong": _fill(solution, b"1,", b"1.5]}"),
        "nonces as floats": _fill(solution, b"1e99,", b"1e99]}"),
        "long floats": _fill(solution, b"0.12345678901234567890123456789,", b"1.5]}"),
        "a number of 4000 digits": _fill(solution, b"9", b"]}"),
        "escapes": _fill(b'{"type":"request","resource":"', rb"\u00e4", b'"}'),
    }


FRAMES: dict[str, bytes] = {
    "announced too large": b"\xff\xff\xff\xff",
    "a byte too large": (_LONGEST + 1).to_bytes(4, "big") + bytes(_LONGEST + 1),
    "empty": bytes(4),
    **{name: messages.framed(body) for name, body in _bodies().items()},
}


class Babbling(Link):
    """Sends one bad frame a connection, since that is what one carries."""

    def __init__(self, swarm: Swarm, source: str, first: int) -> None:
        """
        @param first: which of the frames it begins with.
        """
        super().__init__(swarm, source)
        names = list(FRAMES)
        first %= len(names)
        self._names = cycle(names[first:] + names[:first])
        self._name = ""

    def connected(self) -> None:
        self._name = next(self._names)
        self.send(FRAMES[self._name])

    def heard(self, kind: str, frame: bytes) -> None:
        self.swarm.told[f"{self._name}: {kind}"] += 1
        self.drop()
        self.connect()

    def lost(self) -> None:
        self.swarm.later(AGAIN, self.connect)


def _run(swarm: Swarm) -> None:
    for number in range(_CONNECTIONS):
        Babbling(swarm, swarm.source(), number).connect()
    while not swarm.over:
        swarm.turn(1.0)


ATTACK = Attack(
    "bad-frames",
    "too large, empty, malformed, nested and costly frames, one after the other",
    _run,
)
