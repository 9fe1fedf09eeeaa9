# The three commands of the README, and what developers need beside them.

PYTHON ?= python3
BIN = .venv/bin
CONFIG ?= etc/wow.yaml

.PHONY: help venv run quote test lint types check metrics bench soak attacks clean

help:
	@echo "make run    serve words of wisdom in the foreground (CONFIG=$(CONFIG))"
	@echo "make quote  ask the server for one, from another terminal"
	@echo "make test   run the unit tests, then the system tests"
	@echo "make check  lint and types"
	@echo "make metrics  what is counted; writes docs/metrics.md"
	@echo "make bench  what it costs, against targets and other servers; writes docs/performance.md (5 minutes)"
	@echo "make soak   memory over an hour's worth of exchanges, into the same page (5 minutes)"
	@echo "make attacks  every attack on a server of its own; writes docs/attacks.md (20 minutes)"
	@echo "make clean  remove what the other commands made"

# The stamp is older than the lists of dependencies when these have changed.
.venv/stamp: setup.cfg setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "wow needs Python 3.11 or later; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

venv: .venv/stamp

# Beside that, what only measuring needs, a Go compiler among it.
.venv/bench-stamp: .venv/stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

run: venv
	$(BIN)/twistd --nodaemon --pidfile= wow --config $(CONFIG)

# Quiet, so that `make quote | cat` is the quotation alone.
quote:
	@$(MAKE) --silent --no-print-directory venv >&2
	@$(BIN)/wow quote

# Both, even if the first fails.
test: .venv/bench-stamp
	@status=0; \
	echo $(BIN)/trial wow; $(BIN)/trial wow || status=1; \
	echo $(BIN)/trial tests; $(BIN)/trial tests || status=1; \
	exit $$status

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy

check: lint types

metrics: venv
	$(BIN)/python -m wow.admin.metrics_page > docs/metrics.md

bench: .venv/bench-stamp
	$(BIN)/python -m bench all --out docs

soak: .venv/bench-stamp
	$(BIN)/python -m bench soak --out docs

attacks: .venv/bench-stamp
	$(BIN)/python -m bench.attacks all

clean:
	rm -rf .venv build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache .hypothesis
