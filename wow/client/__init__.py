"""
Ask a wow server: connect, pay its price in work, take what it gives.

A server is trusted with nothing. What it sends is bounded and checked, it can
make nobody work for more than the limit, and a fault of its own ends the
Deferred that waits for it, never this process::

    quote = await ask(endpoint, Solver(reactor), reactor)
"""

from wow.client.link import ProtocolError
from wow.client.session import Limits, Session, TooExpensive, ask, connect

__all__ = ["Limits", "ProtocolError", "Session", "TooExpensive", "ask", "connect"]
