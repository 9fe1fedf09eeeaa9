"""What a process allocates and keeps, by the line that does."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

_MOST_LINES = 40


class AlreadyTraced(Exception):
    """Somebody else has Python trace allocations."""


class Allocations:
    """
    Traces allocations from C{start} to C{stop}: those before it are not known.
    What is still there at the end is told, and how much of it came in the
    second half. What leaks grows in both; what is only in use does not.
    """

    def start(self) -> None:
        """
        Begin. Each allocation takes several times as long from now on.

        @raise AlreadyTraced: then it is left as it is.
        """
        if tracemalloc.is_tracing():
            raise AlreadyTraced
        tracemalloc.start(1)

    def look(self) -> None:
        """Half of the time is over."""
        self._half = tracemalloc.take_snapshot()

    def stop(self) -> tracemalloc.Snapshot:
        """End."""
        snapshot = tracemalloc.take_snapshot()
        self.drop()
        return snapshot

    def drop(self) -> None:
        """End, and forget all."""
        tracemalloc.stop()

    def show(self, snapshot: tracemalloc.Snapshot) -> str:
        """
        What was found, as text. It takes its time, and may be called in a thread.

        @param snapshot: of the end.
        """
        return "\n".join([*self._lines(snapshot), ""])

    def _lines(self, snapshot: tracemalloc.Snapshot) -> Iterator[str]:
        compared = _relevant(snapshot).compare_to(_relevant(self._half), "lineno")
        found = [each for each in compared if each.size]
        found.sort(key=lambda each: -each.size)
        size, blocks = sum(each.size for each in found), sum(each.count for each in found)
        yield f"{size / 1024:.1f} KiB in {blocks} blocks were allocated meanwhile, and are there"
        yield ""
        yield f"{'KiB':>10} {'2nd half':>10} {'blocks':>8} {'2nd half':>8}  line"
        for each in found[:_MOST_LINES]:
            frame = each.traceback[0]
            yield (
                f"{each.size / 1024:>10.1f} {each.size_diff / 1024:>+10.1f} "
                f"{each.count:>8} {each.count_diff:>+8}  {frame.filename}:{frame.lineno}"
            )


def _relevant(snapshot: tracemalloc.Snapshot) -> tracemalloc.Snapshot:
    # Without what tracing takes itself.
    ours = [tracemalloc.Filter(False, file) for file in (tracemalloc.__file__, __file__)]
    return snapshot.filter_traces(ours)
