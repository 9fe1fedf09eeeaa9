"""When there is no room, the connection that was silent for longest gives way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.seats import Seats


class Occupant:
    gone = False

    def __init__(self, heard: float) -> None:
        self.heard = heard

    def give_way(self) -> None:
        self.gone = True


class Seated(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0

    def come(self, seats: Seats[Occupant]) -> Occupant:
        self.now += 1
        newcomer = Occupant(self.now)
        seats.take(newcomer)
        return newcomer

    def speak(self, seats: Seats[Occupant], occupant: Occupant) -> None:
        self.now += 1
        occupant.heard = self.now
        seats.heard(occupant)

    def test_room_for_so_many(self) -> None:
        seats = Seats[Occupant](3, 3)
        first, *others = [self.come(seats) for _ in range(4)]
        self.assertTrue(first.gone)
        self.assertFalse(any(occupant.gone for occupant in others))
        self.assertEqual(len(seats), 3)

    def test_place_of_a_lost_one_is_free(self) -> None:
        seats = Seats[Occupant](2, 2)
        stays, leaves = self.come(seats), self.come(seats)
        seats.leave(leaves)
        self.come(seats)
        self.assertFalse(stays.gone)

    def test_longest_without_a_complete_frame_gives_way(self) -> None:
        seats = Seats[Occupant](3, 3)
        speaker, silent, fresh = (self.come(seats) for _ in range(3))
        self.speak(seats, speaker)
        self.come(seats)
        self.assertEqual([speaker.gone, silent.gone, fresh.gone], [False, True, False])

    def test_that_may_be_one_that_spoke(self) -> None:
        seats = Seats[Occupant](3, 3)
        speaker = self.come(seats)
        self.speak(seats, speaker)
        self.come(seats)
        self.come(seats)
        self.come(seats)
        self.assertTrue(speaker.gone)

    def test_then_the_one_that_has_not_spoken_for_longest(self) -> None:
        seats = Seats[Occupant](2, 2)
        first, second = self.come(seats), self.come(seats)
        for speaker in (first, second, first):
            self.speak(seats, speaker)
        self.come(seats)
        self.assertEqual([first.gone, second.gone], [False, True])

    def test_crowd_of_silent_ones_does_not_drive_out_those_that_spoke(self) -> None:
        seats = Seats[Occupant](10, 3)
        speakers = [self.come(seats) for _ in range(3)]
        for speaker in speakers:
            self.speak(seats, speaker)
        for _ in range(100):
            self.come(seats)
        self.assertFalse(any(speaker.gone for speaker in speakers))
        self.assertEqual((len(seats), seats.half_begun), (6, 3))

    def test_who_gave_way_may_say_so_twice(self) -> None:
        seats = Seats[Occupant](1, 1)
        first = self.come(seats)
        self.come(seats)
        seats.leave(first)
        seats.heard(first)
        self.assertEqual(len(seats), 1)

    @given(st.lists(st.tuples(st.sampled_from(["come", "speak", "leave"]), st.integers(0, 20))))
    def test_bounds_hold_whatever_happens(self, steps: list[tuple[str, int]]) -> None:
        seats, seated = Seats[Occupant](5, 3), list[Occupant]()
        for step, number in steps:
            if step == "come":
                seated.append(self.come(seats))
            elif seated and step == "speak":
                self.speak(seats, seated[number % len(seated)])
            elif seated:
                seats.leave(seated.pop(number % len(seated)))
            seated = [occupant for occupant in seated if not occupant.gone]
            self.assertEqual(sorted(o.heard for o in seats), sorted(o.heard for o in seated))
            self.assertLessEqual(len(seats), 5)
            self.assertLessEqual(seats.half_begun, 3)
