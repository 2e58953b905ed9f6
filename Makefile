# Every verb of the project. `make demo` and `make test` need nothing but Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test check format schema providers bench bench-stores crash clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

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

bench: install ## Print how long verification takes against the bare digest
	$(BIN)/python tests/bench/verification.py

# Rounds, and the seconds of each turn; or BENCH=--quick.
BENCH ?= --rounds 3 --seconds 4

bench-stores: install ## Print events per second with each store and number of workers, beside a bare handler
	@tests/bench/fetch_wrk.sh
	@PYTHONPATH=tests $(BIN)/python -m bench.throughput $(BENCH)

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
