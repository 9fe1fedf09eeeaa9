"""Keys go through a rotation in an order in which no proof is lost, or stay as they are."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.pow import keys, rotation
from wow.pow.keys import Key, KeyRing
from wow.pow.rotation import CannotRotate

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
GOOD = timedelta(seconds=65)
SECOND = timedelta(seconds=1)


def name(key: Key) -> str:
    return key.id.hex()


class Stages(SynchronousTestCase):
    def setUp(self) -> None:
        self.old = keys.generate(START)
        self.ring = KeyRing([self.old])

    def retire(
        self, ring: KeyRing, key: Key, after: timedelta, changed: datetime = START
    ) -> KeyRing:
        return rotation.retire(ring, name(key), START + after, changed, GOOD, force=False)

    def test_added_key_signs_nothing(self) -> None:
        ring = rotation.add(self.ring, START + SECOND)
        self.assertEqual(ring.signing, self.old)
        self.assertEqual(len(ring.keys), 2)
        self.assertEqual(ring.keys[1].created, START + SECOND)

    def test_promoted_key_signs_and_the_others_stay(self) -> None:
        ring = rotation.add(rotation.add(self.ring, START), START)
        _, one, other = ring.keys
        promoted = rotation.promote(ring, name(other), START + SECOND)
        self.assertEqual(promoted.keys, (other, self.old, one))
        self.assertEqual([key.demoted for key in promoted.keys], [None, START + SECOND, None])

    def test_promoted_again(self) -> None:
        """A rotation that is taken back."""
        ring = rotation.add(self.ring, START)
        new = ring.keys[1]
        ring = rotation.promote(ring, name(new), START)
        ring = rotation.promote(ring, name(self.old), START + SECOND)
        self.assertEqual([key.demoted for key in ring.keys], [None, START + SECOND])

    def test_promote_who_signs(self) -> None:
        error = self.assertRaises(CannotRotate, rotation.promote, self.ring, name(self.old), START)
        self.assertIn("already", str(error))

    def test_no_such_key(self) -> None:
        error = self.assertRaises(CannotRotate, rotation.promote, self.ring, "00000000", START)
        self.assertIn(name(self.old), str(error))

    def test_retired_when_its_challenges_have_expired(self) -> None:
        ring = rotation.add(self.ring, START)
        ring = rotation.promote(ring, name(ring.keys[1]), START)
        early = self.assertRaises(CannotRotate, self.retire, ring, self.old, GOOD - SECOND, START)
        self.assertIn("another 1 seconds", str(early))
        self.assertEqual(self.retire(ring, self.old, GOOD).keys, (ring.signing,))

    def test_clock_that_was_set_back(self) -> None:
        ring = rotation.add(self.ring, START)
        ring = rotation.promote(ring, name(ring.keys[1]), START)
        self.assertRaises(CannotRotate, self.retire, ring, self.old, timedelta(days=-1))

    def test_without_a_note_the_last_change_counts(self) -> None:
        """In a file from before there were notes, or that was changed by hand."""
        ring = KeyRing([keys.generate(), self.old])
        changed = START + timedelta(days=1)
        after = timedelta(days=1) + GOOD
        self.assertRaises(CannotRotate, self.retire, ring, self.old, after - SECOND, changed)
        self.assertEqual(self.retire(ring, self.old, after, changed).keys, (ring.signing,))

    def test_who_signs_is_not_retired_even_by_force(self) -> None:
        ring = rotation.add(self.ring, START)
        for force in (False, True):
            error = self.assertRaises(
                CannotRotate,
                rotation.retire,
                ring,
                name(self.old),
                START + 2 * GOOD,
                START,
                GOOD,
                force,
            )
            self.assertIn("promote another", str(error))

    def test_force(self) -> None:
        ring = rotation.add(self.ring, START)
        left = rotation.retire(ring, name(ring.keys[1]), START, START, GOOD, force=True)
        self.assertEqual(left.keys, (self.old,))

    def test_written_and_read(self) -> None:
        ring = rotation.add(self.ring, START + SECOND)
        ring = rotation.promote(ring, name(ring.keys[1]), START + 2 * SECOND)
        again = keys.parse(rotation.write(ring), "test")
        self.assertEqual(again.keys, ring.keys)
        self.assertEqual(
            [(key.created, key.demoted) for key in again.keys],
            [(START + SECOND, None), (START, START + 2 * SECOND)],
        )


class Sequences(SynchronousTestCase):
    @given(st.lists(st.tuples(st.sampled_from(("add", "promote", "retire")), st.integers(0, 100))))
    def test_any(self, steps: list[tuple[str, int]]) -> None:
        """There is one key that signs at all times, and it never goes before its time."""
        ring, now = KeyRing([keys.generate(START)]), START
        for step, number in steps:
            before, now = ring, now + number * SECOND
            chosen = ring.keys[number % len(ring.keys)]
            with contextlib.suppress(CannotRotate):
                if step == "add":
                    ring = rotation.add(ring, now)
                elif step == "promote":
                    ring = rotation.promote(ring, name(chosen), now)
                else:
                    ring = rotation.retire(ring, name(chosen), now, START, GOOD, force=False)
            ring = keys.parse(rotation.write(ring), "test")
            self.assertIsNotNone(ring.secret(before.signing.id))
            if step == "add":
                self.assertEqual(ring.signing, before.signing)
            gone = [key for key in before.keys if ring.secret(key.id) is None]
            for key in gone:
                self.assertGreaterEqual(now - (key.demoted or START), GOOD)
