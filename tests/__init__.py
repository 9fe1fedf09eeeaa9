"""The whole system as users run it, with real processes and sockets: C{trial tests}."""
