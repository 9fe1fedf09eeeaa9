"""What counts as a quote, wherever it comes from."""

from __future__ import annotations

LONGEST_TEXT = 1000
"""Characters of the longest quote."""

LONGEST_AUTHOR = 200
"""Characters of the longest author's name."""


def tidy(text: object, author: object) -> tuple[str, str]:
    """
    Check a quote, and put its white space in order.

    @param author: may be None or empty.
    @return: text and author, on one line each.
    @raise ValueError: if this is no quote; the message says why without
        repeating any of it.
    """
    tidied = _tidy("text", text, LONGEST_TEXT)
    if not tidied:
        raise ValueError("text is empty")
    return tidied, _tidy("author", "" if author is None else author, LONGEST_AUTHOR)


def _tidy(part: str, words: object, longest: int) -> str:
    if not isinstance(words, str):
        raise ValueError(f"{part} is not a string")
    line = " ".join(words.split())
    # With all white space turned into spaces, what is not printable is just
    # Unicode's category C: terminal escapes, bidirectional overrides, lone
    # surrogates.
    if not line.isprintable():
        raise ValueError(f"{part} has control characters")
    if len(line) > longest:
        raise ValueError(f"{part} has more than {longest} characters")
    return line
