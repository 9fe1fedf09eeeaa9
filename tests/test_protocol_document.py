"""A stranger's client: the one in docs/protocol.md, run as it stands with nothing but Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.running import PATIENCE, Server
from wow.errors import BY_CODE

DOCUMENT = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()


class Document(SynchronousTestCase):
    def test_client_in_full_gets_a_quote(self) -> None:
        (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
        server = Server(Path(self.mktemp()))
        self.addCleanup(server.stop)
        host, port = server.address
        # -I and -S: no package that happens to be installed can help it.
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program, host, str(port)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertRegex(ended.stdout, r"^\S.* - .*\n$")

    def test_every_error_code_is_explained(self) -> None:
        table = DOCUMENT.split("\n## Errors\n")[1].split("\n## ")[0]
        rows = [row.split("|") for row in table.splitlines() if row.startswith("| `")]
        said = {row[1].strip(" `"): row[3].strip() for row in rows}
        refusals = {
            code: "closed" if refused.closes else "kept" for code, refused in BY_CODE.items()
        }
        self.assertEqual(said, refusals)
