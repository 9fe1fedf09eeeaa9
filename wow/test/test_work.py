"""The puzzle, against the protocol's test vectors."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.pow import work

CASES: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("vectors.json").read_text(encoding="utf-8")
)["cases"]


class VectorTests(SynchronousTestCase):
    """What every implementation of the protocol agrees on."""

    def test_target(self) -> None:
        for case in CASES:
            self.assertEqual(f"{work.target(case['round_effort']):016x}", case["target"])

    def test_check(self) -> None:
        for case in CASES:
            target = int(case["target"], 16)
            self.assertIs(work.check(case["token"], case["first_nonces"], target), True)

    def test_search_finds_the_smallest(self) -> None:
        for case in CASES:
            for index, nonce in enumerate(case["first_nonces"]):
                target = int(case["target"], 16)
                self.assertEqual(work.search(case["token"], index, target, 0, 10_000), nonce)

    def test_by_hand(self) -> None:
        """As the protocol's page says: compare the first 16 hex digits as text."""
        case = CASES[3]
        for index, nonce in enumerate(case["first_nonces"]):
            digest = sha256(f"{case['token']}:{index}:{nonce}".encode()).hexdigest()
            self.assertLessEqual(digest[:16], case["target"])


class CheckTests(SynchronousTestCase):
    """A check that was skipped is never a pass."""

    case = CASES[3]
    target = int(case["target"], 16)

    def test_every_round_counts(self) -> None:
        nonces = self.case["first_nonces"]
        for index in range(len(nonces)):
            # One less than the smallest solution is none.
            wrong = [*nonces[:index], nonces[index] - 1, *nonces[index + 1 :]]
            self.assertIs(work.check(self.case["token"], wrong, self.target), False)

    def test_no_nonces(self) -> None:
        self.assertIs(work.check(self.case["token"], [], self.target), False)
        self.assertIs(work.check(self.case["token"], [], 2**64 - 1), False)

    def test_order(self) -> None:
        nonces = self.case["first_nonces"][::-1]
        self.assertIs(work.check(self.case["token"], nonces, self.target), False)

    def test_other_token(self) -> None:
        other = "B" + self.case["token"][1:]
        self.assertIs(work.check(other, self.case["first_nonces"], self.target), False)

    def test_target_itself_is_good_enough(self) -> None:
        digest = sha256(f"{self.case['token']}:0:7".encode()).digest()
        exactly = int.from_bytes(digest[:8], "big")
        self.assertIs(work.check(self.case["token"], [7], exactly), True)
        self.assertIs(work.check(self.case["token"], [7], exactly - 1), False)

    @given(st.lists(st.integers(0, work.NONCES - 1), max_size=4), st.integers(1, 32))
    def test_as_the_protocol_says(self, nonces: list[int], round_effort: int) -> None:
        target = (2**64 - 1) // round_effort
        digests = [sha256(f"token:{i}:{n}".encode()).digest() for i, n in enumerate(nonces)]
        solved = [int.from_bytes(digest[:8], "big") <= target for digest in digests]
        self.assertEqual(
            work.check("token", nonces, work.target(round_effort)), bool(solved) and all(solved)
        )


class SearchTests(SynchronousTestCase):
    """A search keeps to its chunk."""

    token, nonce = CASES[1]["token"], CASES[1]["first_nonces"][0]
    target = int(CASES[1]["target"], 16)

    def test_last_of_chunk(self) -> None:
        self.assertEqual(work.search(self.token, 0, self.target, 0, self.nonce + 1), self.nonce)

    def test_ends_before(self) -> None:
        self.assertIsNone(work.search(self.token, 0, self.target, 0, self.nonce))

    def test_starts_at(self) -> None:
        self.assertEqual(work.search(self.token, 0, self.target, self.nonce, 1), self.nonce)

    def test_starts_behind(self) -> None:
        found = work.search(self.token, 0, self.target, self.nonce + 1, 1000)
        assert found is not None
        self.assertGreater(found, self.nonce)

    def test_easiest(self) -> None:
        self.assertEqual(work.search(self.token, 0, work.target(1), 5, 1), 5)
