"""The PROXY protocol: a balancer says, before anything else, whose connection it passes on."""

from __future__ import annotations

from typing import Literal, get_args

Reason = Literal["untrusted", "malformed", "too_long", "timeout", "crowded", "closed"]

REASONS: tuple[Reason, ...] = get_args(Reason)
"""
Why a connection was not handed on: it is not a balancer's; its header is
none, or longer than is taken, or did not come in time; others that came
later needed its place; it ended before its header did.
"""
