"""
What becomes of single exchanges, told to an OpenTelemetry collector.

It needs what C{wow[tracing]} installs. So nothing here is imported where it is
off, but for this module, and nothing of it is on the way of an exchange then.
"""

from __future__ import annotations

from importlib.util import find_spec

_PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.common")


def installed() -> bool:
    """Whether what it needs is there."""
    try:
        found = [
            find_spec(f"opentelemetry.{name}") for name in ("sdk", "exporter.otlp.proto.common")
        ]
    except ModuleNotFoundError:
        return False
    return None not in found
