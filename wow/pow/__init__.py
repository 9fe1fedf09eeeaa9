"""Proof of work: the token, the puzzle, and what was spent. Knows no socket and no JSON."""
