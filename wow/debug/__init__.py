"""
A running server, looked at from within: where its time and its memory go, and
what it waits for. All that takes its time to import is left until an operator asks.
"""
