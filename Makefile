# Every verb of the project. `make demo` and `make test` need nothing but Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test check format schema providers bench bench-verification bench-flat bench-stores bench-guard crash clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.installed: pyproject.toml deploy/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gatehouse needs Python 3.11 or newer; try: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[dev]'
	@touch $@

install: $(VENV)/.installed ## Make .venv with Gatehouse and what its tests need

demo: install ## Run the real gateway, send it each provider's example, show what happened
	@$(BIN)/gatehouse demo

test: install ## Run all tests
	$(BIN)/python -m pytest

check: install ## Check format, lint and types
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy

format: install ## Format the code and apply safe fixes
	$(BIN)/ruff format src tests
	$(BIN)/ruff check --fix src tests

schema: install ## Write docs/gateway.schema.json from the config models
	$(BIN)/python -m gatehouse.config.schema > docs/gateway.schema.json

providers: install ## Write docs/providers.md from the presets and their vectors
	$(BIN)/python -m gatehouse.providers.page tests/vectors docs/providers.md

# What only the benchmark needs: the applications that it compares with.
$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[dev,bench]'
	@touch $@

# BENCH=--quick takes a minute; BENCH="--write docs/benchmarks.md" writes the page. bench-stores has --quick,
# --rounds and --seconds too.
BENCH ?=

bench: $(VENV)/.bench ## Print what the gateway costs beside bare servers, and beside what one would write instead
	@tests/bench/fetch_wrk.sh
	@tests/bench/fetch_express.sh
	@PYTHONPATH=tests $(BIN)/python -m bench $(BENCH)

bench-verification: install ## Print how long verification takes against the bare digest
	$(BIN)/python tests/bench/verification.py

bench-stores: install ## Print events per second with each store and number of workers, beside a bare handler
	@tests/bench/fetch_wrk.sh
	@PYTHONPATH=tests $(BIN)/python -m bench.throughput $(BENCH)

bench-guard: install ## Compare the instructions an event takes with those on record (RECORD=1: record them)
	@tests/bench/fetch_valgrind.sh
	@PYTHONPATH=tests $(BIN)/python -m bench.instructions $(if $(RECORD),--record)

# PART=keys, purge or pending: one part; FLAT="--keys 1000000 --rounds 2": smaller. Needs 5 GB of disk.
PART ?= keys purge pending
FLAT ?=

bench-flat: install ## Print what ingest and deliveries cost with millions of keys, a purge, a million pending
	@tests/bench/fetch_wrk.sh
	@PYTHONPATH=tests $(BIN)/python -m bench.flat --parts $(PART) $(FLAT)

# How often the gateway is killed, and how many acknowledgements there have to be; the other runs go by KILLS.
# PARTS=soak SOAK=4h is for nights.
KILLS ?= 200
ACKS ?= 100000
PARTS ?= kills failpoints migration sigterm backups power-cut power-loss replicas
SOAK ?= 1h

crash: install ## Kill the gateway again and again under load, and check that nothing is lost (KILLS=20 ACKS=5000: shorter)
	@tests/crash/fetch_strace.sh
	@PYTHONPATH=tests $(BIN)/python -m crash --kills $(KILLS) --acks $(ACKS) --soak $(SOAK) --parts $(PARTS)

clean: ## Remove what the other verbs made
	rm -rf $(VENV) .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis
