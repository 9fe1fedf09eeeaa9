"""A page of the documentation of which a part is made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def replace(page: Path, begin: str, end: str, lines: Iterable[str], skeleton: str) -> None:
    """
    Make anew what stands between two lines of a page.

    @param skeleton: the page, if there is none yet.
    @raise ValueError: if the page lacks those lines.
    """
    text = page.read_text() if page.exists() else skeleton
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{page} lacks the lines between which stands what is made")
    page.write_text("\n".join([before + begin, "", *lines, "", end + after]))
