"""What a server runs as one step."""

from __future__ import annotations

import hashlib

from attrs import field, frozen


@frozen
class Script:
    """
    A script that a server keeps by its hash.

    @ivar text: in Lua.
    """

    text: str
    sha: str = field(init=False)

    @sha.default
    def _hash(self) -> str:
        # The server's name for it; nothing rests on its strength.
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
