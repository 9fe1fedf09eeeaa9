"""The C{wow} command."""
