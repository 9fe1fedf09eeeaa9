"""What came of an attack, in figures: a dictionary that can be kept as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from bench.attacks.arena import Course, Sample, base_price, is_base
from bench.attacks.honest import Record

Result = dict[str, Any]

_SENT = ("connections", "established", "messages", "bytes", "hashes")

WARM_UP = 1.0
"""Seconds at the start that do not count."""


def summarize(course: Course) -> Result:
    """All that there is to say of an attack. Its keys say their units."""
    start, stop = course.attacked, course.relieved
    return {
        "attack": course.attack.name,
        "idea": course.attack.idea,
        "settings": dict(course.attack.environ),
        "why": course.attack.why,
        "seconds": {
            "before": round(start - course.began, 1),
            "attack": round(stop - start, 1),
            "after": round(course.ended - stop, 1),
        },
        "honest": {
            "priority": course.priority,
            "before": _honest(course.records, course.began + WARM_UP, start),
            "attack": _honest(course.records, start, stop),
            "after": _honest(course.records, stop, course.ended),
        },
        "price": _price(course),
        "server": _server(course),
        "attacker": _attacker(course),
    }


def _honest(records: Iterable[Record], start: float, end: float) -> Result:
    meant = [record for record in records if start <= record.scheduled < end]
    served = [record for record in meant if record.served]
    waits = sorted(record.wait * 1000 for record in served)
    return {
        "exchanges": len(meant),
        "served_percent": _percent(len(served), len(meant)),
        "wait_ms": {
            "p50": _quantile(waits, 0.5),
            "p99": _quantile(waits, 0.99),
            "max": _quantile(waits, 1.0),
        },
        "retried": sum(record.tries > 1 for record in meant),
        "unserved": dict(Counter(record.why for record in meant if not record.served)),
        "most_paid_hashes": max((record.paid for record in served), default=0),
    }


def _percent(part: float, whole: float) -> float | None:
    return round(100 * part / whole, 2) if whole else None


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2)


def _price(course: Course) -> Result:
    base = base_price(course)
    known = [(sample.at, sample.price) for sample in course.samples if sample.price is not None]
    above = [at for at, price in known if at > course.relieved and not is_base(price, base)]
    back = known and is_base(known[-1][1], base)
    return {
        "base_hashes": base,
        "peak_hashes": max((price for _, price in known), default=0.0),
        "back_after_seconds": round(max([*above, course.relieved]) - course.relieved, 1)
        if back
        else None,
        "over_time": [
            {"second": round(at - course.attacked, 1), "hashes": price}
            for (_, before), (at, price) in pairwise([(0.0, None), *known])
            if price != before
        ],
    }


def _server(course: Course) -> Result:
    before = _between(course, course.began + WARM_UP, course.attacked)
    during = _between(course, course.attacked, course.relieved)
    memory = {
        "before": _last_memory(before),
        "peak": max((sample.memory for sample in course.samples), default=0.0),
        "after": _last_memory(course.samples),
    }
    growth = memory["after"] - memory["before"]
    return {
        "cpu_percent": {"before": _share(before), "attack": _share(during)},
        "connections_peak": max((sample.connections or 0 for sample in during), default=0),
        "memory_mib": {name: round(amount, 1) for name, amount in memory.items()},
        "memory_growth_percent": _percent(growth, memory["before"]),
        "log_lines": course.log,
        "survived": course.survived,
    }


def _between(course: Course, start: float, end: float) -> list[Sample]:
    return [sample for sample in course.samples if start <= sample.at <= end]


def _last_memory(samples: Sequence[Sample]) -> float:
    return samples[-1].memory if samples else 0.0


def _share(samples: Sequence[Sample]) -> float | None:
    """Percent of a core that the server used from the first of the samples to the last."""
    if not samples:
        return None
    first, last = samples[0], samples[-1]
    return _percent(last.cpu - first.cpu, last.at - first.at)


def _attacker(course: Course) -> Result:
    during = _between(course, course.attacked, course.relieved)
    sent = course.attacker.get("sent", {})
    return {
        "cpu_seconds": round(max((sample.attacker_cpu for sample in during), default=0.0), 2),
        "sources": course.attack.sources,
        **{name: sent.get(name, 0) for name in _SENT},
        "failed_connections": sent.get("failed", 0),
        "got": course.attacker.get("got", {}),
        "told": course.attacker.get("told", {}),
        **_purchases(course),
    }


def _purchases(course: Course) -> Result:
    """What an attacker that pays paid and got for it, second by second."""
    timeline = course.attacker.get("timeline", [])[::2]
    if not course.attack.pays:
        return {}
    seconds = []
    for (start, quotes, hashes), (end, more_quotes, more_hashes) in pairwise(timeline):
        price = _price_at(course, (start + end) / 2)
        got = (more_quotes - quotes) / (end - start)
        seconds.append(
            {
                "second": round(start - course.attacked, 1),
                "got": round(got, 1),
                "price_hashes": price,
                "hashes": round((more_hashes - hashes) / (end - start)),
                "worth_hashes": round(got * price),
            }
        )
    return {"purchases": seconds}


def _price_at(course: Course, at: float) -> float:
    known = [sample for sample in course.samples if sample.price is not None]
    nearest = min(known, key=lambda sample: abs(sample.at - at), default=None)
    return 0.0 if nearest is None or nearest.price is None else nearest.price
