"""
The search for a whole puzzle, cut into chunks that can be tried anywhere. Pure.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field, frozen
from attrs.validators import and_, ge, instance_of, le, lt, matches_re

from wow.pow import work

CHUNK = 65536
"""Nonces handed out at a time: 25 to 50 ms of one core."""

Progress = Callable[[int, int, bool], object]
"""Called with a round's index, the hashes done in that round, and whether it is solved."""


class SolverFailed(Exception):
    """A puzzle could not be solved, for a reason on this machine. The message says which."""


@frozen
class Puzzle:
    """
    What is to be solved: as much of a challenge as the search needs.

    @ivar token: the challenge's token, base64url.
    @ivar rounds: 1 to 64.
    @ivar round_effort: expected hashes for one round, 1 to 2^32 - 1.
    @raise ValueError: for values that the protocol does not allow.
    @raise TypeError: for values of another type.
    """

    token: str = field(validator=matches_re(r"[A-Za-z0-9_-]{1,1024}"))
    rounds: int = field(validator=and_(instance_of(int), ge(1), le(64)))
    round_effort: int = field(validator=and_(instance_of(int), ge(1), lt(2**32)))

    @property
    def effort(self) -> int:
        """Expected hashes for the whole puzzle."""
        return self.rounds * self.round_effort

    @property
    def target(self) -> int:
        """The largest admissible first 8 bytes of a digest, as an integer."""
        return work.target(self.round_effort)

    @property
    def chunks(self) -> int:
        """Expected chunks for the whole puzzle, at least one for each round."""
        return self.rounds * -(-self.round_effort // CHUNK)


@define(eq=False)
class Round:
    """
    How far one round is.

    @ivar untried: the smallest nonce that was not handed out.
    @ivar hashes: how many were computed.
    @ivar searchers: how many chunks of it are out.
    @ivar nonce: its solution, once found.
    """

    index: int
    untried: int = 0
    hashes: int = 0
    searchers: int = 0
    nonce: int | None = None

    @property
    def open(self) -> bool:
        """Whether there is something left to hand out, and a reason to."""
        return self.nonce is None and self.untried < work.NONCES

    @property
    def hopeless(self) -> bool:
        """Whether every nonce was tried in vain."""
        return self.nonce is None and self.untried >= work.NONCES and not self.searchers


@frozen(eq=False)
class Chunk:
    """Consecutive nonces of one round."""

    round: Round
    start: int
    count: int


class Search:
    """
    Which nonces of one puzzle were handed out, and what came back.

    @ivar rounds: how far each round is.
    """

    def __init__(self, puzzle: Puzzle, progress: Progress) -> None:
        self.puzzle = puzzle
        self.rounds = [Round(index) for index in range(puzzle.rounds)]
        self._progress = progress

    def take(self) -> Chunk | None:
        """
        The next chunk to search, or None while nothing is left to hand out.

        It is of the first of the rounds that fewest are searching, so that
        several searchers are in different rounds, and share the last.
        """
        fewest = min(filter(lambda r: r.open, self.rounds), key=lambda r: r.searchers, default=None)
        if fewest is None:
            return None
        chunk = Chunk(fewest, fewest.untried, min(CHUNK, work.NONCES - fewest.untried))
        fewest.untried += chunk.count
        fewest.searchers += 1
        return chunk

    def record(self, chunk: Chunk, nonce: int | None) -> None:
        """
        Take in the answer to a chunk: a nonce that solves its round, or None.

        @raise SolverFailed: if the round has no nonce left.
        """
        searched = chunk.round
        searched.searchers -= 1
        if searched.nonce is not None:
            return
        searched.hashes += chunk.count if nonce is None else nonce - chunk.start + 1
        searched.nonce = nonce
        if searched.hopeless:
            raise SolverFailed(f"no nonce below 2^53 solves round {searched.index}")
        self._progress(searched.index, searched.hashes, nonce is not None)

    def solution(self) -> list[int] | None:
        """
        The nonces in the order of the rounds, once every round has one.

        @raise SolverFailed: if they are wrong. Searching and checking are
            different code: a fault in either is seen here and not by a server.
        """
        nonces = [searched.nonce for searched in self.rounds if searched.nonce is not None]
        if len(nonces) < len(self.rounds):
            return None
        if not work.check(self.puzzle.token, nonces, self.puzzle.target):
            raise SolverFailed("the search gave a wrong nonce")
        return nonces
