"""A short name for a configuration, by which servers that should have the same are compared."""

from __future__ import annotations

import json
from hashlib import sha256

from wow.config import Settings

_MACHINES_OWN = {"listen", "admin", "log"}
"""Sections that may differ between servers that treat clients alike."""


def fingerprint(settings: Settings) -> str:
    """
    The first 8 hex digits of a hash of all that clients may notice.

    It is shown to operators, so it is made of what they may see: where secrets
    are, and not what they say.
    """
    shown = settings.model_dump(mode="json", exclude=_MACHINES_OWN)
    return sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:8]
