"""A challenge being solved, in pieces, so that a process can do other things in between."""

from __future__ import annotations

from bench import messages
from wow.pow.work import search, target


class Puzzle:
    """
    A challenge and what is solved of it.

    @ivar rounds: how many there are.
    @ivar effort: the hashes that it takes on average.
    @ivar hashes: those that were made.
    @ivar nonces: of the rounds solved so far.
    """

    def __init__(self, challenge: messages.Message) -> None:
        """
        @param challenge: the server's message.
        """
        self.token: str = challenge["challenge"]
        self.rounds: int = challenge["rounds"]
        self._target = target(challenge["round_effort"])
        self.effort: int = challenge["rounds"] * challenge["round_effort"]
        self.hashes = 0
        self.nonces: list[int] = []
        self._next = 0

    def advance(self, hashes: int) -> bool:
        """
        Go on for so many hashes at most.

        @return: whether it is solved.
        """
        while hashes > 0 and len(self.nonces) < self.rounds:
            count = min(hashes, 2**53 - self._next)
            nonce = search(self.token, len(self.nonces), self._target, self._next, count)
            made = count if nonce is None else nonce + 1 - self._next
            self.hashes += made
            hashes -= made
            self._next += made
            if nonce is not None:
                self.nonces.append(nonce)
                self._next = 0
        return len(self.nonces) == self.rounds

    @property
    def solution(self) -> bytes:
        """The framed solution, once it is solved."""
        return messages.solution(self.token, self.nonces)
