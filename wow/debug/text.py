"""A profile as text, for whoever has a terminal and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from wow.debug.profile import Function, Profile, Stack

_MOST_FUNCTIONS = 40
_MOST_STACKS = 5


def show(profile: Profile) -> str:
    """
    The functions that took most, as C{go tool pprof -top} shows them: flat is
    what they took themselves, cum what those they called took with them; and
    the stacks that took most, innermost first.
    """
    return "\n".join([*_summary(profile), "", *_functions(profile), "", *_stacks(profile), ""])


def _summary(profile: Profile) -> Iterator[str]:
    total = profile.nanoseconds
    share = total / 10**9 / profile.seconds
    yield (
        f"{_ms(total)} ms of CPU time in {profile.seconds:.2f} s ({share:.1%} of a core), "
        f"{profile.samples} samples"
    )
    yield f"other threads: {_ms(profile.elsewhere)} ms"


def _functions(profile: Profile) -> Iterator[str]:
    flat: Counter[Function] = Counter()
    cum: Counter[Function] = Counter()
    for stack, cost in profile.stacks.items():
        if stack:
            flat[stack[0].function] += cost.nanoseconds
        for function in {place.function for place in stack}:
            cum[function] += cost.nanoseconds
    total = max(profile.nanoseconds, 1)
    yield f"{'flat ms':>10} {'flat':>6} {'cum ms':>10} {'cum':>6}  function"
    # The callers of all have nothing of their own, and say nothing.
    order = sorted(cum, key=lambda function: (-flat[function], -cum[function]))
    for function in order[:_MOST_FUNCTIONS]:
        yield (
            f"{_ms(flat[function]):>10} {flat[function] / total:>6.1%} "
            f"{_ms(cum[function]):>10} {cum[function] / total:>6.1%}  "
            f"{function.name} ({function.file}:{function.line})"
        )


def _stacks(profile: Profile) -> Iterator[str]:
    def by_cost(stack: Stack) -> int:
        return -profile.stacks[stack].nanoseconds

    for stack in sorted(profile.stacks, key=by_cost)[:_MOST_STACKS]:
        yield f"{_ms(profile.stacks[stack].nanoseconds)} ms"
        for place in stack:
            yield f"    {place.function.name} ({place.function.file}:{place.line})"


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 10**6:.1f}"
