"""Connections to a Redis or Valkey server. Knows nothing of what is kept there."""
