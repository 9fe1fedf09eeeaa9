"""What an attack is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.attacks.swarm import Swarm


@dataclass(frozen=True)
class Attack:
    """
    One idea of how to harm the server.

    @ivar idea: what it does, in a sentence.
    @ivar run: does it until the swarm is L{Swarm.over}.
    @ivar sources: the number of addresses that it comes from.
    @ivar seconds: for which it goes on unless told otherwise.
    @ivar environ: the server's settings beside the usual ones.
    @ivar why: the reason for them.
    @ivar pays: whether what it buys is to be compared with what it pays.
    """

    name: str
    idea: str
    run: Callable[[Swarm], None]
    sources: int = 200
    seconds: float = 15.0
    environ: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    pays: bool = False
