"""wow: a price on asking. Proof of work in front of a TCP service."""

__version__ = "0.1.0"
