"""A quote is a short line that a terminal can show without harm."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.quotes.words import LONGEST_AUTHOR, LONGEST_TEXT, tidy


class Tidying(SynchronousTestCase):
    """What is no quote is refused, with the reason and without the words."""

    def refuse(self, text: object, author: object, reason: str) -> None:
        with self.assertRaises(ValueError) as caught:
            tidy(text, author)
        self.assertEqual(str(caught.exception), reason)

    def test_white_space(self) -> None:
        """White space of any kind becomes single spaces, and none at the ends."""
        self.assertEqual(tidy(" a\r\n\tb\u00a0 c\u2028", "\x0bd  e"), ("a b c", "d e"))

    def test_any_language(self) -> None:
        """Letters, marks and symbols of any script stay as they are."""
        self.assertEqual(tidy("Γνῶθι σεαυτόν — 知 ✨", "Θαλῆς"), ("Γνῶθι σεαυτόν — 知 ✨", "Θαλῆς"))

    def test_author_may_be_missing(self) -> None:
        """No author and an empty author are the same."""
        self.assertEqual(tidy("a", None), ("a", ""))
        self.assertEqual(tidy("a", " "), ("a", ""))

    def test_empty_text(self) -> None:
        """A text of white space only is none."""
        for text in ("", " \n\t"):
            self.refuse(text, "a", "text is empty")

    def test_not_a_string(self) -> None:
        """Nothing is made into a string that is none."""
        for value in (None, 1, True, ["a"], {"a": "b"}, b"a"):
            self.refuse(value, "a", "text is not a string")
        self.refuse("a", 1, "author is not a string")

    def test_control_characters(self) -> None:
        """Terminal escapes, overrides of direction, NUL and lone surrogates do not get through."""
        for character in "\x1b\x00\x07\x7f\x9b\u202e\u2066\ud800\ue000\ufeff":
            self.refuse(f"a{character}b", "a", "text has control characters")
            self.refuse("a", f"a{character}b", "author has control characters")

    def test_length(self) -> None:
        """The limits are on what is left when the white space is in order."""
        longest = " " + "x" * LONGEST_TEXT + " "
        self.assertEqual(tidy(longest, "y" * LONGEST_AUTHOR)[0], longest.strip())
        self.refuse("x" * 1001, "a", "text has more than 1000 characters")
        self.refuse("a", "x" * 201, "author has more than 200 characters")

    @given(st.text(), st.text())
    def test_whatever_gets_through_can_be_shown(self, text: str, author: str) -> None:
        """No character of category C is in a quote, and it is one line."""
        try:
            tidied = tidy(text, author)
        except ValueError:
            return
        for part in tidied:
            self.assertNotIn("C", {unicodedata.category(character)[0] for character in part})
            self.assertEqual(part, " ".join(part.split()))
