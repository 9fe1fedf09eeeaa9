"""Honest clients: each asks, solves, and hands in until it has its quote."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

from tests.running import PATIENCE, Client, Message, solve

_PAUSE = 0.05
"""Seconds until the next try where the last one failed."""

_GOOD = frozenset({"unavailable", "busy", "shutting_down", "rate_limited", "timeout"})
"""Errors after which a challenge is as good as it was."""


class Honest:
    """
    Clients that come one after the other, each from an address of its own, for
    as long as they are not stopped. A challenge is asked for on one connection
    and handed in on another, and once more when it was paid for.

    @ivar served: exchanges so far.
    @ivar lost: challenges that were refused for good, by code.
    @ivar twice: solutions that bought two quotes.
    @ivar trouble: tries that failed otherwise, by what came of them.
    """

    def __init__(
        self,
        address: tuple[str, int],
        network: str,
        clients: int = 4,
        others: Sequence[tuple[str, int]] = (),
    ) -> None:
        """
        @param address: where to connect.
        @param network: the first half of their addresses.
        @param clients: at a time.
        @param others: where to connect by turns, with the first.
        """
        self.served = 0
        self.twice = 0
        self.lost: Counter[str] = Counter()
        self.trouble: Counter[str] = Counter()
        self._addresses = cycle((address, *others))
        self._stopped = threading.Event()
        self._pause = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(_sources(f"{network}.{number}"),))
            for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let those under way finish, and have no more of them."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, sources: Iterator[str]) -> None:
        while not self._stopped.is_set():
            source = next(sources)
            challenge = self._insist(source, {"type": "request"}, "challenge")
            if challenge is not None:
                self._redeem(source, solve(challenge))

    def _redeem(self, source: str, solution: Message) -> None:
        answer = self._insist(source, solution, "quote")
        if answer is None:
            return
        again = self._say(source, solution)
        with self._lock:
            self.served += 1
            self.twice += again.get("type") == "quote"

    def _insist(self, source: str, message: Message, wanted: str) -> Message | None:
        """Say something until the answer is what is wanted, or one that is final."""
        handed_in = False
        gives_up = time.monotonic() + PATIENCE
        while time.monotonic() < gives_up:
            answer = self._say(source, message)
            said = str(answer.get("code", answer["type"]))
            if said == wanted:
                return answer
            with self._lock:
                if said == "replayed" and handed_in:
                    # The answer to an earlier try was lost with its connection.
                    self.trouble["answer lost"] += 1
                    return None
                if said not in _GOOD and said != "broken":
                    self.lost[said] += 1
                    return None
                self.trouble[said] += 1
            handed_in = handed_in or said in ("broken", "unavailable")
            self._pause.wait(_PAUSE)
        with self._lock:
            self.lost["gave up"] += 1
        return None

    def _say(self, source: str, message: Message) -> Message:
        try:
            with Client(next(self._addresses), source) as client:
                client.send(message)
                answer: Any = client.hear()
        except (OSError, AssertionError):
            answer = None
        return answer or {"type": "broken"}


def _sources(network: str) -> Iterator[str]:
    while True:
        for number in range(1, 255):
            yield f"{network}.{number}"
