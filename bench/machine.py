"""What figures were measured on, in a sentence, without which they say little."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench import servers


def describe() -> str:
    """The processor, the kernel, and the versions of what was measured."""
    return (
        f"{os.cpu_count()} cores of {_processor()}, Linux {_series()}, "
        f"Python {platform.python_version()}, Twisted {version('twisted')}, {_go()}"
    )


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _series() -> str:
    return ".".join(platform.release().split(".")[:2])


def _go() -> str:
    command = [servers.find_go(), "env", "GOVERSION"]
    said = subprocess.run(
        command, env=servers.go_environment(), capture_output=True, text=True, check=True
    )
    return said.stdout.strip().replace("go", "Go ")
