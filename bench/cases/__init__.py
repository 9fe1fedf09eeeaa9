"""What is measured, one idea a module."""

from __future__ import annotations

from bench.cases import idle, rates, ratio, soak, startup, workers
from bench.cases.case import Case

ALL: dict[str, Case] = {
    each.CASE.name: each.CASE for each in (ratio, workers, idle, startup, rates, soak)
}
