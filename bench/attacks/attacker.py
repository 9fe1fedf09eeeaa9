"""
The attacker's process: one attack, once it is told to go.

Run as C{python -m bench.attacks.attacker NAME PORT SECONDS}. It prints a line
when it is ready, begins with the first line that it reads, and prints as JSON
what it did and got.
"""

from __future__ import annotations

import json
import sys
from time import monotonic

from bench.attacks.kinds import ALL
from bench.attacks.swarm import Swarm
from bench.sockets import raise_file_limit


def main(name: str, port: int, seconds: float) -> None:
    attack = ALL[name]
    raise_file_limit()
    print("ready", flush=True)
    sys.stdin.readline()
    swarm = Swarm(port, seconds, attack.sources)
    began = monotonic()
    attack.run(swarm)
    report = {
        "sent": swarm.sent,
        "got": swarm.got,
        "told": swarm.told,
        "timeline": swarm.timeline,
        "began": began,
        "ended": monotonic(),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
