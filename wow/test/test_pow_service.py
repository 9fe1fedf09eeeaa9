"""Proof of work, issued and redeemed: every check made, in order, and nothing handed out before."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from wow import errors
from wow.metrics import Tally
from wow.pow.keys import KeyRing, generate
from wow.pow.pricing import LEVELS, Price, Pricing
from wow.pow.resource import IProtectedResource
from wow.pow.service import ProofOfWork
from wow.pow.spent import MemorySpentStore
from wow.pow.token import UNBOUND, Token, bind, open_sealed, pack, seal
from wow.pow.work import search
from wow.spread import Milliseconds
from wow.test.test_token import RING, VECTORS

TTL = 60_000
SKEW = 5_000
ALICE = bind(pack("192.0.2.7"))
MALLORY = bind(pack("192.0.2.8"))


@implementer(IProtectedResource)
class Fortune:
    """A resource that is at hand, or takes its time, and counts how often it was prepared."""

    def __init__(self) -> None:
        self.prepared = 0
        self.answer: Deferred[str] | None = None

    def prepare(self, client: bytes) -> str | Deferred[str]:
        self.prepared += 1
        return "fortune" if self.answer is None else self.answer


class Gated(SynchronousTestCase):
    """A gate with a memory store whose clock shows C{self.now}."""

    def setUp(self) -> None:
        self.now = 1_700_000_000_000
        self.fortune = Fortune()
        self.spent = MemorySpentStore(lambda: self.now, TTL)
        self.spent.open()
        self.asked = Tally(Counter("asked", "Effort asked.", registry=None))
        self.paid = Tally(Counter("paid", "Effort paid.", registry=None))
        made = Counter("made", "Challenges.", registry=None)
        self.challenges = [Tally(made) for _ in range(LEVELS + 1)]
        self.solve_time = Milliseconds()
        self.pricing = Pricing(
            base=64,
            floor=64,
            ceiling=1024,
            rounds=4,
            load=0.5,
            busy=lambda: 0.0,
            seconds=lambda: self.now / 1000,
        )

    def gate(self, keys: KeyRing = RING, bind_clients: bool = True) -> ProofOfWork:
        return ProofOfWork(
            keys=keys,
            pricing=self.pricing,
            ttl_ms=TTL,
            skew_ms=SKEW,
            bind_clients=bind_clients,
            spent=self.spent,
            resources={"quote": self.fortune, "a-b-1": self.fortune},
            now_ms=lambda: self.now,
            effort_asked=self.asked,
            effort_paid=self.paid,
            challenges=self.challenges,
            solve_time=self.solve_time,
        )

    def solve(self, text: str, rounds: int = 4, target: int = (2**64 - 1) // 16) -> list[int]:
        found = [search(text, index, target, 0, 10_000) for index in range(rounds)]
        return [nonce for nonce in found if nonce is not None]

    def issued(self, client: bytes = ALICE) -> tuple[str, list[int]]:
        text = self.gate().issue(client, "quote").text
        return text, self.solve(text)

    def redeem(
        self, text: str, nonces: list[int], client: bytes = ALICE, **options: Any
    ) -> str | type[BaseException]:
        """The message, or the kind of refusal."""
        redeemed = maybeDeferred(self.gate(**options).redeem, client, text, nonces)
        outcome: list[str | type[BaseException]] = []
        redeemed.addCallbacks(outcome.append, lambda failure: outcome.append(failure.type))
        return outcome[0]


class Issuing(Gated):
    def test_challenge_says_its_price(self) -> None:
        issued = self.gate().issue(ALICE, "quote")
        self.assertEqual(issued.price, Price(4, 16))
        self.assertEqual(issued.price.effort, 64)
        self.assertEqual(issued.price.target, "0fffffffffffffff")
        self.assertEqual(issued.expires_in, 60.0)

    def test_price_is_in_the_token(self) -> None:
        issued = self.gate().issue(ALICE, "a-b-1")
        token = open_sealed(issued.text, RING, ALICE)
        self.assertEqual((token.rounds, token.round_effort, token.resource), (4, 16, "a-b-1"))
        self.assertEqual(token.expiry_ms, self.now + TTL + 1)

    def test_no_two_challenges_are_alike(self) -> None:
        self.assertEqual(len({self.gate().issue(ALICE, "quote").text for _ in range(100)}), 100)

    def test_unknown_resource(self) -> None:
        self.assertRaises(errors.UnknownResource, self.gate().issue, ALICE, "riches")

    def test_nothing_is_stored(self) -> None:
        self.issued()
        self.assertEqual(self.spent.count(), 0)

    def test_effort_is_counted(self) -> None:
        self.issued()
        self.assertEqual(self.asked.count, 64)

    def test_level_of_the_client_doubles_the_price(self) -> None:
        self.assertEqual(self.gate().issue(ALICE, "quote", 3).price, Price(4, 128))

    def test_challenges_are_counted_by_level(self) -> None:
        for level in (0, 3, 3, LEVELS):
            self.gate().issue(ALICE, "quote", level)
        counts = {level: made.count for level, made in enumerate(self.challenges) if made.count}
        self.assertEqual(counts, {0: 1, 3: 2, LEVELS: 1})


class Redeeming(Gated):
    def test_work_buys_the_resource(self) -> None:
        self.assertEqual(self.redeem(*self.issued()), "fortune")
        self.assertEqual(self.paid.count, 64)

    def test_vectors(self) -> None:
        for case in VECTORS["cases"]:
            client = bind(pack(case["client_address"]))
            outcome = self.redeem(case["token"], case["first_nonces"], client)
            self.assertEqual(outcome, "fortune", case["name"])
            replay = self.redeem(case["token"], case["first_nonces"], client)
            # All but the first share an expiry and a random id.
            self.assertIs(replay, errors.Replayed, case["name"])
            self.spent.close()

    def test_only_once(self) -> None:
        solution = self.issued()
        self.redeem(*solution)
        self.assertIs(self.redeem(*solution), errors.Replayed)

    def test_other_nonces_are_the_same_token(self) -> None:
        text, nonces = self.issued()
        self.redeem(text, nonces)
        later = search(text, 0, (2**64 - 1) // 16, nonces[0] + 1, 10_000)
        assert later is not None
        self.assertIs(self.redeem(text, [later, *nonces[1:]]), errors.Replayed)

    def test_other_client(self) -> None:
        self.assertIs(self.redeem(*self.issued(), client=MALLORY), errors.InvalidChallenge)

    def test_unbound(self) -> None:
        text = self.gate(bind_clients=False).issue(ALICE, "quote").text
        open_sealed(text, RING, UNBOUND)
        self.assertEqual(
            self.redeem(text, self.solve(text), client=MALLORY, bind_clients=False), "fortune"
        )

    def test_other_key(self) -> None:
        ring = KeyRing([generate()])
        self.assertIs(self.redeem(*self.issued(), keys=ring), errors.InvalidChallenge)

    def test_expiry(self) -> None:
        text, nonces = self.issued()
        self.now += TTL + 1 + SKEW
        self.assertEqual(self.redeem(text, nonces), "fortune")
        text, nonces = self.issued()
        self.now += TTL + 1 + SKEW + 1
        self.assertIs(self.redeem(text, nonces), errors.Expired)

    def test_number_of_nonces(self) -> None:
        text, nonces = self.issued()
        for wrong in ([], nonces[:-1], [*nonces, 0], nonces * 2):
            self.assertIs(self.redeem(text, wrong), errors.InsufficientWork)

    def test_each_round_is_checked(self) -> None:
        text, nonces = self.issued()
        for index in range(4):
            missing = next(
                nonce
                for nonce in range(1000)
                if search(text, index, (2**64 - 1) // 16, nonce, 1) is None
            )
            wrong = [*nonces[:index], missing, *nonces[index + 1 :]]
            self.assertIs(self.redeem(text, wrong), errors.InsufficientWork)

    def test_resource_that_is_gone(self) -> None:
        token = Token(1, 1, self.now + TTL + 1, bytes(16), "riches")
        self.assertIs(self.redeem(seal(token, RING, ALICE), [0]), errors.UnknownResource)

    def test_unavailable_resource_leaves_the_token_unspent(self) -> None:
        solution = self.issued()
        self.fortune.answer = fail(errors.Unavailable())
        self.assertIs(self.redeem(*solution), errors.Unavailable)
        self.fortune.answer = None
        self.assertEqual(self.redeem(*solution), "fortune")

    def test_cheap_checks_come_first(self) -> None:
        # A solution with everything wrong with it is refused for the first
        # thing looked at, and the resource is not troubled.
        text, _ = self.issued()
        self.now += 10 * TTL
        self.assertIs(self.redeem(text[:-1], []), errors.InvalidChallenge)
        self.assertIs(self.redeem(text, []), errors.Expired)
        self.now -= 10 * TTL
        self.assertIs(self.redeem(text, []), errors.InsufficientWork)
        self.assertEqual(self.fortune.prepared, 0)
        self.assertEqual(self.spent.count(), 0)

    def test_token_is_spent_only_once_the_resource_is_ready(self) -> None:
        text, nonces = self.issued()
        self.fortune.answer = Deferred()
        redeemed = self.gate().redeem(ALICE, text, nonces)
        self.assertNoResult(redeemed)
        self.assertEqual(self.spent.count(), 0)
        self.fortune.answer.callback("late")
        self.assertEqual(self.successResultOf(redeemed), "late")
        self.assertEqual(self.spent.count(), 1)

    def test_store_must_say_true(self) -> None:
        solution = self.issued()
        for answer in (None, 1, "yes", False):
            for said in (answer, succeed(answer)):
                self.patch(self.spent, "spend", lambda *_, said=said: said)
                self.assertIs(self.redeem(*solution), errors.Replayed)

    def test_store_that_takes_its_time(self) -> None:
        """Nothing is handed out, nor counted as paid, before the token is spent."""
        spent: Deferred[bool] = Deferred()
        self.patch(self.spent, "spend", lambda *_: spent)
        redeemed = self.gate().redeem(ALICE, *self.issued())
        self.assertNoResult(redeemed)
        self.assertEqual(self.paid.count, 0)
        spent.callback(True)
        self.assertEqual(self.successResultOf(redeemed), "fortune")
        self.assertEqual(self.paid.count, 64)

    def test_store_that_fails_late(self) -> None:
        self.patch(self.spent, "spend", lambda *_: fail(errors.Unavailable()))
        self.assertIs(self.redeem(*self.issued()), errors.Unavailable)
        self.assertEqual(self.paid.count, 0)


class Stages(Gated):
    """A refusal says how far the exchange had come."""

    def stage(self, text: str, nonces: list[int]) -> str:
        redeemed = maybeDeferred(self.gate().redeem, ALICE, text, nonces)
        refused = self.failureResultOf(redeemed, errors.Refused).value
        assert isinstance(refused, errors.Refused)
        return f"{refused.stage} {refused.code}"

    def test_one_after_the_other(self) -> None:
        text, nonces = self.issued()
        self.assertEqual(self.stage(text[:-1], nonces), "token invalid_challenge")
        self.assertEqual(self.stage(text, []), "work insufficient_work")
        self.redeem(text, nonces)
        self.assertEqual(self.stage(text, nonces), "spend replayed")
        self.now += 10 * TTL
        self.assertEqual(self.stage(text, nonces), "token expired")

    def test_the_resource_and_the_store_are_told_apart(self) -> None:
        solution = self.issued()
        self.fortune.answer = fail(errors.Unavailable())
        self.assertEqual(self.stage(*solution), "resource unavailable")
        self.fortune.answer = None
        self.patch(self.spent, "spend", lambda *_: fail(errors.Unavailable()))
        self.assertEqual(self.stage(*solution), "spend unavailable")

    def test_below_the_mark(self) -> None:
        solution = self.issued()
        self.spent = MemorySpentStore(lambda: self.now + 1, TTL)
        self.spent.open()
        self.assertEqual(self.stage(*solution), "spend expired")

    def test_resource_that_is_gone(self) -> None:
        token = Token(1, 1, self.now + TTL + 1, bytes(16), "riches")
        self.assertEqual(self.stage(seal(token, RING, ALICE), [0]), "resource unknown_resource")


class SolveTime(Gated):
    def solved_after(self, milliseconds: int) -> None:
        text, nonces = self.issued()
        self.now += milliseconds
        self.redeem(text, nonces)

    def test_is_from_issue_to_solution(self) -> None:
        # The store began just now, so that the token lives a millisecond longer.
        self.solved_after(1001)
        self.assertEqual(self.solve_time.sum, 1.0)
        self.solved_after(500)
        self.assertEqual(self.solve_time.sum, 1.5)

    def test_is_not_negative(self) -> None:
        self.solved_after(-500)
        self.assertEqual((self.solve_time.sum, self.solve_time.buckets[-1][1]), (0.0, 0))

    def test_is_that_of_the_redeemed_alone(self) -> None:
        text, nonces = self.issued()
        self.redeem(text, nonces[:-1])
        self.assertEqual(self.solve_time.buckets[-1][1], 0)


class KeyRotation(Gated):
    def test_no_proof_is_lost(self) -> None:
        old, new = (generate() for _ in range(2))
        before = self.gate(KeyRing([old])).issue(ALICE, "quote").text
        during = self.gate(KeyRing([new, old])).issue(ALICE, "quote").text
        for text in (before, during):
            outcome = self.redeem(text, self.solve(text), keys=KeyRing([new, old]))
            self.assertEqual(outcome, "fortune")


class ClockSteps(Gated):
    """No step of the clock revives a spent token, or keeps new ones out for long."""

    def purge(self) -> None:
        self.spent.purge(self.now - SKEW)

    def test_forward_and_back(self) -> None:
        solution = self.issued()
        self.redeem(*solution)
        self.now += 10 * TTL
        self.purge()
        self.now -= 10 * TTL
        self.assertIs(self.redeem(*solution), errors.Expired)
        self.assertEqual(self.redeem(*self.issued()), "fortune")

    def test_long_forward_and_back(self) -> None:
        self.now += 3_600_000
        self.redeem(*self.issued())
        self.now += 2 * TTL
        self.purge()
        self.now -= 3_600_000
        self.assertEqual(self.redeem(*self.issued()), "fortune")

    def test_lost_store(self) -> None:
        solution = self.issued()
        self.redeem(*solution)
        self.now += 1000
        self.spent = MemorySpentStore(lambda: self.now, TTL)
        self.spent.open()
        self.assertIs(self.redeem(*solution), errors.Expired)
        self.assertEqual(self.redeem(*self.issued()), "fortune")


class AnySolution(Gated):
    @given(st.text(max_size=150), st.lists(st.integers(0, 2**53 - 1), max_size=70))
    def test_only_refused(self, text: str, nonces: list[int]) -> None:
        self.assertIs(self.redeem(text, nonces), errors.InvalidChallenge)

    @given(st.lists(st.integers(0, 2**53 - 1), min_size=4, max_size=4))
    def test_guessed_nonces_pay_only_if_they_are_solutions(self, nonces: list[int]) -> None:
        text = self.gate().issue(ALICE, "quote").text
        solved = all(
            search(text, index, (2**64 - 1) // 16, nonce, 1) is not None
            for index, nonce in enumerate(nonces)
        )
        expected = "fortune" if solved else errors.InsufficientWork
        self.assertEqual(self.redeem(text, nonces), expected)
