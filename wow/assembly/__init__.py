"""The parts of a server, made from its settings and joined."""
