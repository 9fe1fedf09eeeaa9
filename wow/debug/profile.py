"""Where a process spent its time, told in places of the source and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen


@frozen
class Function:
    """
    A function.

    @ivar line: on which it begins.
    """

    name: str
    file: str
    line: int


@frozen
class Place:
    """A line in a function."""

    function: Function
    line: int


Stack = tuple[Place, ...]
"""What was being executed, innermost first."""


@frozen
class Cost:
    """
    What was seen of one stack.

    @ivar samples: how often it was seen.
    @ivar nanoseconds: of CPU time.
    """

    samples: int
    nanoseconds: int


@frozen
class Profile:
    """
    CPU time of the thread that serves, by stack.

    @ivar began: wall clock time, nanoseconds since 1970.
    @ivar seconds: that it was watched.
    @ivar period: nanoseconds of CPU time from one sample to the next, about.
    @ivar elsewhere: nanoseconds of CPU time of all other threads.
    """

    began: int
    seconds: float
    period: int
    elsewhere: int
    stacks: Mapping[Stack, Cost] = field(repr=False)

    @property
    def nanoseconds(self) -> int:
        """CPU time of all stacks."""
        return sum(cost.nanoseconds for cost in self.stacks.values())

    @property
    def samples(self) -> int:
        """How often one looked."""
        return sum(cost.samples for cost in self.stacks.values())
