"""What exchanges cost a server."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from time import monotonic

from bench import usage
from bench.generator import Generator, Outcome, Unfit


@dataclass(frozen=True)
class Load:
    """
    What to load a server with.

    @ivar exchanges: in all.
    @ivar per_connection: how many share a connection, one after the other.
    @ivar connections: the most exchanges at a time, each on a connection.
    @ivar rate: how many are to begin in a second, or None for a closed loop.
    """

    exchanges: int
    per_connection: int = 1
    connections: int = 32
    rate: float | None = None

    def put_on(self, port: int) -> Outcome:
        """
        Load the server on a port of 127.0.0.1.

        @raise Unfit: if it is none that can be loaded, or dies of it.
        """
        made = Generator(port, per_connection=self.per_connection, connections=self.connections)
        with closing(made):
            if self.rate is None:
                return made.closed(self.exchanges)
            return made.open(self.exchanges, self.rate)


@dataclass(frozen=True)
class Cost:
    """
    CPU, user and system, of all processes of a server.

    @ivar us: microseconds for an exchange.
    @ivar busy: cores that it kept busy. Much below 1, and what was measured
        is partly how a server goes to sleep and wakes.
    """

    us: float
    busy: float


def measure(load: Load, port: int, pid: int) -> tuple[Outcome, Cost]:
    """
    Load a server, and see what it costs.

    @param pid: of the server, or of the parent of its processes.
    @raise Unfit: as L{Load.put_on}.
    """
    before, began = usage.cpu(pid), monotonic()
    outcome = load.put_on(port)
    used, took = usage.cpu(pid) - before, monotonic() - began
    return outcome, Cost(used / load.exchanges * 1e6, used / took)


def cost_of(load: Load, port: int, pid: int) -> Cost:
    """
    What exchanges cost a server that has to serve them all.

    @raise Unfit: if it does not, or as L{Load.put_on}.
    """
    outcome, cost = measure(load, port, pid)
    if outcome.refused:
        counts = ", ".join(f"{code} {count}" for code, count in outcome.refused.items())
        raise Unfit(f"not all exchanges were served, so their cost means nothing: {counts}")
    return cost
