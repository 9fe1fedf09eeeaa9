"""
A profile in pprof's own format, which C{go tool pprof} reads: a gzipped message
of github.com/google/pprof/proto/profile.proto.

What is needed of protocol buffers is two kinds of fields, so a library for the
rest would be the greater part. Nothing on the package index writes this format.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from typing import Any

from wow.debug.profile import Function, Place, Profile

# Numbers of fields, by message.
_PROFILE = {
    "sample_type": 1,
    "sample": 2,
    "location": 4,
    "function": 5,
    "string_table": 6,
    "time_nanos": 9,
    "duration_nanos": 10,
    "period_type": 11,
    "period": 12,
    "comment": 13,
}
_VALUE_TYPE = {"type": 1, "unit": 2}
_SAMPLE = {"location_id": 1, "value": 2}
_LOCATION = {"id": 1, "line": 4}
_LINE = {"function_id": 1, "line": 2}
_FUNCTION = {"id": 1, "name": 2, "system_name": 3, "filename": 4, "start_line": 5}


def encode(profile: Profile) -> bytes:
    """The same as C{go tool pprof} takes it."""
    strings, functions, places = _Numbers(0), _Numbers(1), _Numbers(1)
    # The first string is the empty one, and the first location none.
    strings.of("")

    def value_type(kind: str, unit: str) -> bytes:
        return _message(_VALUE_TYPE, type=strings.of(kind), unit=strings.of(unit))

    def function(each: Function, number: int) -> bytes:
        name, file = strings.of(each.name), strings.of(each.file)
        return _message(
            _FUNCTION, id=number, name=name, system_name=name, filename=file, start_line=each.line
        )

    def location(each: Place, number: int) -> bytes:
        line = _message(_LINE, function_id=functions.of(each.function), line=each.line)
        return _message(_LOCATION, id=number, line=line)

    samples = [
        _message(
            _SAMPLE,
            location_id=_packed(places.of(place) for place in stack),
            value=_packed((cost.samples, cost.nanoseconds)),
        )
        for stack, cost in profile.stacks.items()
    ]
    whole: dict[str, int | bytes | list[bytes]] = {
        "sample_type": [value_type("samples", "count"), value_type("cpu", "nanoseconds")],
        "sample": samples,
        "location": [location(place, number) for place, number in places.items()],
        "function": [function(each, number) for each, number in functions.items()],
        "time_nanos": profile.began,
        "duration_nanos": round(profile.seconds * 10**9),
        "period_type": value_type("cpu", "nanoseconds"),
        "period": profile.period,
        "comment": strings.of(f"other threads: {profile.elsewhere} ns of CPU time"),
    }
    table = [text.encode() for text, _ in strings.items()]
    return gzip.compress(_message(_PROFILE, string_table=table, **whole), mtime=0)


class _Numbers:
    """Gives each thing a number, in order."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._numbers: dict[Any, int] = {}

    def of(self, thing: Any) -> int:
        return self._numbers.setdefault(thing, len(self._numbers) + self._first)

    def items(self) -> Iterable[tuple[Any, int]]:
        return self._numbers.items()


def _message(numbers: Mapping[str, int], **fields: int | bytes | list[bytes]) -> bytes:
    """Numbers are varints, bytes have their length before them, and lists are repeated."""
    encoded = bytearray()
    for name, value in fields.items():
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, int):
                encoded += _varint(numbers[name] << 3) + _varint(each)
            else:
                encoded += _varint(numbers[name] << 3 | 2) + _varint(len(each)) + each
    return bytes(encoded)


def _packed(numbers: Iterable[int]) -> bytes:
    return b"".join(map(_varint, numbers))


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, and a bit that says that there are more."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
