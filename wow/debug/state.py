"""
What a process is doing just now, and what it waits for: names of functions and
types, and numbers. No value of a variable is among it, and no address.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

from twisted.internet.task import LoopingCall

from wow.census import Stateful

_MOST_KINDS = 50
"""Rows of a table."""

_MOST_CALLS = 50
_DEEPEST = 128


def threads(frames: Mapping[int, FrameType], running: Iterable[threading.Thread]) -> str:
    """
    What each thread is executing, innermost first.

    @param frames: by the thread's number, as from C{sys._current_frames}.
    """
    names = {thread.ident: thread.name for thread in running}
    lines = [f"{len(frames)} threads"]
    for number, frame in frames.items():
        lines += ["", names.get(number) or f"{number}, not one of Python's", *_stack(frame)]
    return "\n".join([*lines, ""])


def _stack(frame: FrameType | None) -> Iterator[str]:
    depth = 0
    while frame is not None and depth < _DEEPEST:
        code = frame.f_code
        yield f"    {code.co_qualname} ({code.co_filename}:{frame.f_lineno})"
        frame, depth = frame.f_back, depth + 1


def reactor(reactor: Any, connections: Iterable[Stateful]) -> str:
    """
    What the event loop waits for.

    @param connections: clients'.
    """
    states = Counter(connection.state for connection in connections)
    now = reactor.seconds()
    calls = sorted(reactor.getDelayedCalls(), key=lambda call: call.getTime())
    functions = Counter(_name(call.func) for call in calls)
    lines = [
        f"reactor: {_name(type(reactor))}",
        *_table("clients' connections", states),
        *_table("readers", Counter(_name(type(each)) for each in reactor.getReaders())),
        *_table("writers", Counter(_name(type(each)) for each in reactor.getWriters())),
        *_table("delayed calls", functions),
        "",
        "the next delayed calls, in seconds",
        *(f"{call.getTime() - now:>10.3f}  {_name(call.func)}" for call in calls[:_MOST_CALLS]),
    ]
    return "\n".join([*lines, ""])


def garbage() -> str:
    """What the garbage collector does, and the objects that it follows, by type."""
    objects = Counter(map(type, gc.get_objects()))
    lines = [
        f"enabled: {gc.isenabled()}",
        f"count: {gc.get_count()}, thresholds: {gc.get_threshold()}",
        f"frozen at the start, and not in the table: {gc.get_freeze_count()}",
        *(
            f"generation {number}: {stats['collections']} collections, {stats['collected']} "
            f"objects collected, {stats['uncollectable']} could not be"
            for number, stats in enumerate(gc.get_stats())
        ),
        f"waiting for nothing: {len(gc.garbage)}",
        f"blocks allocated: {sys.getallocatedblocks()}",
        *_table("objects", Counter({_name(each): count for each, count in objects.items()})),
    ]
    return "\n".join([*lines, ""])


def _table(title: str, counts: Counter[str]) -> Iterator[str]:
    yield ""
    yield f"{title}: {counts.total()}"
    for name, count in counts.most_common(_MOST_KINDS):
        yield f"{count:>10}  {name}"


def _name(thing: Any) -> str:
    """Of a type or a function. What it is bound to is not told, as that may be anything."""
    if isinstance(thing, LoopingCall):
        thing = thing.f
    function = getattr(thing, "func", thing)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or type(function).__module__}.{name}"
