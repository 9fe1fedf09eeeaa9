"""A profile in formats that pyinstrument knows to write. Needs what C{wow[debug]} installs."""

from __future__ import annotations

import sys

from pyinstrument.renderers import HTMLRenderer, SpeedscopeRenderer
from pyinstrument.session import Session

from wow.debug.profile import Place, Profile


def html(profile: Profile) -> bytes:
    """A page with the tree of calls, which needs nothing else."""
    page: str = HTMLRenderer().render(_session(profile))
    return page.encode()


def speedscope(profile: Profile) -> bytes:
    """JSON for https://www.speedscope.app, which runs in the browser alone."""
    # All of it: what others would hide of libraries is where the time goes.
    content: str = SpeedscopeRenderer(show_all=True).render(_session(profile))
    return content.encode()


def _session(profile: Profile) -> Session:
    # Those that begin alike side by side, as it joins only neighbours. So its
    # timelines are of no use.
    records = sorted(
        ([_frame(place) for place in reversed(stack)], cost.nanoseconds / 10**9)
        for stack, cost in profile.stacks.items()
    )
    period = profile.period / 10**9
    return Session(
        frame_records=records,
        start_time=profile.began / 10**9,
        duration=profile.seconds,
        min_interval=period,
        max_interval=period,
        sample_count=profile.samples,
        # Of no use here, as what began is not below what was seen; but not empty.
        start_call_stack=[""],
        target_description=f"wow, {profile.seconds:.1f} seconds",
        cpu_time=profile.nanoseconds / 10**9,
        sys_path=sys.path,
        sys_prefixes=[sys.prefix],
    )


def _frame(place: Place) -> str:
    # As it writes them itself.
    function = place.function
    return f"{function.name}\x00{function.file}\x00{function.line}\x01l{place.line}"
