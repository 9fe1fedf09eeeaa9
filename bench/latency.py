"""How long exchanges took: HdrHistogram's percentiles, which keep the tail."""

from __future__ import annotations

from collections.abc import Iterable

try:
    from hdrh.histogram import HdrHistogram
except ImportError:
    raise SystemExit("HdrHistogram is missing: pip install -e '.[bench]' brings it") from None

_LONGEST = 60_000_000
"""Microseconds; what takes longer counts as this."""

_DIGITS = 3

SHOWN = (50.0, 90.0, 99.0, 99.9, 100.0)
"""The percentiles that tables show."""

SPECTRUM = (0, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 100)
"""Those that pictures show, nearer and nearer to the longest of all."""


def histogram(seconds: Iterable[float]) -> HdrHistogram:
    """Durations, by the microsecond."""
    recorded = HdrHistogram(1, _LONGEST, _DIGITS)
    for each in seconds:
        recorded.record_value(min(max(1, round(each * 1e6)), _LONGEST))
    return recorded


def percentiles(seconds: Iterable[float], of: Iterable[float] = SPECTRUM) -> dict[str, int]:
    """Microseconds that so many percent took at most, by the percentage as text."""
    recorded = histogram(seconds)
    return {f"{each:g}": int(recorded.get_value_at_percentile(each)) for each in of}
