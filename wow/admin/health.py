"""
Whether the server lives, and whether it should be sent clients.

Live means that the reactor turns. Ready means that nothing is known that
would keep a client from being served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen


@frozen
class Check:
    """
    One thing that must be well.

    @ivar trouble: says what is not, or None.
    @ivar state: what else an operator wants to see of it.
    """

    trouble: Callable[[], str | None]
    state: Callable[[], Any] = lambda: None


class Health:
    """What is known of the parts of a server."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether the server is ready, and why not and the parts' states, fit for JSON."""
        troubles = {name: check.trouble() for name, check in self._checks.items()}
        states = {name: check.state() for name, check in self._checks.items()}
        reasons = {name: trouble for name, trouble in troubles.items() if trouble is not None}
        return not reasons, {
            "ready": not reasons,
            "reasons": reasons,
            **{name: state for name, state in states.items() if state is not None},
        }
