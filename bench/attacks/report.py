"""What came of attacks, for people: a table in the terminal, and one in the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench import page
from bench.attacks.kinds import ALL
from bench.attacks.results import Result

_BEGIN = "<!-- Made by python -m bench.attacks all; changes from here on are lost. -->"
_END = "<!-- The end of what is made. -->"
_SKELETON = f"""# Attacks

What each attack on a running server did to honest clients, and what it cost both sides.
`python -m bench.attacks all` makes the figures anew.

{_BEGIN}
{_END}
"""
_HEADINGS = (
    "attack",
    "honest clients served",
    "their wait beyond solving: median, 99 %, longest",
    "price at its peak; back after",
    "server's core",
    "server's memory before, peak, after",
    "attacker's cost",
    "what it got",
)


def table(result: Result) -> str:
    """A result for the terminal."""
    rows = [*_honest_rows(result), *_server_rows(result), *_attacker_rows(result)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{result['attack']}: {result['idea']}"]
    lines += [f"  {name:{width}}  {text}" for name, text in rows]
    if purchases := result["attacker"].get("purchases"):
        lines += ["", *_purchases(purchases)]
    return "\n".join(lines) + "\n"


def _honest_rows(result: Result) -> Iterator[tuple[str, str]]:
    if result["settings"]:
        settings = " ".join(f"{name}={value}" for name, value in result["settings"].items())
        yield "settings", f"{settings}: {result['why']}"
    if not result["honest"]["priority"]:
        yield "honest clients", "could not be given precedence over the attacker on their core"
    for phase in ("before", "attack", "after"):
        honest = result["honest"][phase]
        why = f"; unserved: {_counts(honest['unserved'])}" if honest["unserved"] else ""
        text = (
            f"{_percent(honest['served_percent'])} of {honest['exchanges']} served, "
            f"wait (median, 99 %, longest) {_wait(result, phase)}, "
            f"{honest['retried']} tried again, "
            f"paid {honest['most_paid_hashes']} hashes at most{why}"
        )
        yield f"honest, {phase}", text


def _server_rows(result: Result) -> Iterator[tuple[str, str]]:
    price, server = result["price"], result["server"]
    moves = [
        f"{each['hashes']:.0f} hashes at {each['second']:.1f} s" for each in price["over_time"]
    ]
    yield (
        "price",
        f"{', '.join(moves)}; {_back(result)}",
    )
    text = (
        f"{_percent(server['cpu_percent']['attack'])} of a core "
        f"(before: {_percent(server['cpu_percent']['before'])}), "
        f"memory (before, peak, after) {_memory(result)}, "
        f"{_percent(server['memory_growth_percent'])} more, "
        f"{server['connections_peak']:.0f} connections at the peak"
    )
    yield "server", text
    yield (
        "log",
        f"{_counts(server['log_lines'])} lines{'' if server['survived'] else '; THE SERVER DIED'}",
    )


def _attacker_rows(result: Result) -> Iterator[tuple[str, str]]:
    attacker = result["attacker"]
    failed = attacker["failed_connections"]
    yield "attacker's cost", _cost(result) + (f", {failed:,} failed" if failed else "")
    yield "attacker got", _counts(attacker["got"])
    yield from _told(attacker["told"])


def _told(told: dict[str, int]) -> Iterator[tuple[str, str]]:
    """What the attack itself has to say; what it counted by kinds, a row for each."""
    kinds: dict[str, dict[str, int]] = {}
    for name, count in told.items():
        kind, _, outcome = name.rpartition(": ")
        kinds.setdefault(kind, {})[outcome] = count
    for kind, counts in kinds.items():
        yield f"- {kind}" if kind else "and", _counts(counts)


def _purchases(purchases: Iterable[Result]) -> Iterator[str]:
    yield f"  {'second':>8}{'got/s':>10}{'price':>10}{'got x price/s':>16}{'hashes/s':>12}"
    for each in purchases:
        yield (
            f"  {each['second']:>8.1f}{each['got']:>10.0f}{each['price_hashes']:>10.0f}"
            f"{each['worth_hashes']:>16,}{each['hashes']:>12,}"
        )


def _percent(number: float | None) -> str:
    return "?" if number is None else f"{number:g} %"


def _counts(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "nothing"


def _wait(result: Result, phase: str) -> str:
    waits = result["honest"][phase]["wait_ms"]
    if waits["p50"] is None:
        return "none"
    return f"{waits['p50']:.1f}, {waits['p99']:.1f}, {waits['max']:.1f} ms"


def _back(result: Result) -> str:
    price = result["price"]
    if price["peak_hashes"] == price["base_hashes"]:
        return "never rose"
    seconds = price["back_after_seconds"]
    return "not back at the end" if seconds is None else f"back after {seconds:.1f} s"


def _memory(result: Result) -> str:
    memory = result["server"]["memory_mib"]
    return f"{memory['before']:.0f}, {memory['peak']:.0f}, {memory['after']:.0f} MiB"


def _cost(result: Result) -> str:
    attacker = result["attacker"]
    spent = [
        (attacker["connections"], "connections begun"),
        (attacker["established"], "made"),
        (attacker["messages"], "messages"),
        (attacker["bytes"], "bytes"),
        (attacker["hashes"], "hashes"),
    ]
    numbers = [f"{number:,} {what}" for number, what in spent if number]
    known = f"{attacker['sources']:,} addresses, {attacker['cpu_seconds']:.1f} s of CPU"
    return ", ".join([known, *numbers])


def keep(results: Iterable[Result], directory: Path) -> None:
    """
    Bring the documentation up to date with new results; others stay.

    @param directory: where C{attacks.md} is or is to be, and C{attacks/results.json}.
    """
    place = directory / "attacks" / "results.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(place.read_text()) if place.exists() else {}
    kept.update({result["attack"]: result for result in results})
    ordered = {name: kept[name] for name in ALL if name in kept}
    # A line an attack, so that a change of one is seen as such.
    lines = [f"{json.dumps(name)}: {_compact(result)}" for name, result in ordered.items()]
    place.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    page.replace(directory / "attacks.md", _BEGIN, _END, _markdown(ordered.values()), _SKELETON)


def _compact(result: Result) -> str:
    return json.dumps(result, separators=(",", ":"))


def _markdown(results: Iterable[Result]) -> Iterator[str]:
    yield f"| {' | '.join(_HEADINGS)} |"
    yield f"| {' | '.join('---' for _ in _HEADINGS)} |"
    for result in results:
        yield f"| {' | '.join(_cells(result))} |"


def _cells(result: Result) -> Iterator[str]:
    name, honest, price = result["attack"], result["honest"], result["price"]
    base, peak = price["base_hashes"], price["peak_hashes"]
    yield f"[{name}](attacks/{name}.png)"
    yield f"{_percent(honest['attack']['served_percent'])}"
    yield f"{_wait(result, 'attack')} (before: {_wait(result, 'before')})"
    rise = f"x{peak / base:.1f}; " if base and peak > base else ""
    yield rise + _back(result)
    yield _percent(result["server"]["cpu_percent"]["attack"])
    yield _memory(result)
    yield _cost(result)
    yield _counts({**result["attacker"]["got"], **_headline(result)})


def _headline(result: Result) -> dict[str, int]:
    # Counts by kind are many, and are in results.json.
    told: dict[str, int] = result["attacker"]["told"]
    return {name: count for name, count in told.items() if ":" not in name}
