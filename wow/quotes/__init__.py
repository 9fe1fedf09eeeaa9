"""What is behind the gate: words of wisdom and where they come from."""
