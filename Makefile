# The commands of the project. `make demo` and `make test` need only Python 3.11 or newer, and make.
# PYTHON is the first Python that is new enough and can make a virtual environment; make PYTHON=/path/to/python sets another.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
comma := ,
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c deploy/constraints.txt

# A stamp says what $(VENV) contains: .demo Gatehouse alone, .installed the test tools too, .bench everything.
RUNS := $(if $(wildcard $(VENV)/.installed),$(VENV)/.installed,$(VENV)/.demo)

# BUILD=compiled lets `test`, `crash` and the benchmarks run the compiled wheel. It has an environment of its own, which
# shares the other packages of $(VENV).
BUILD ?= pure
COMPILED := .venv-compiled
PACKAGES = import sysconfig; print(sysconfig.get_path("purelib"))
IS_COMPILED := $(filter compiled,$(BUILD))
RUNNER := $(if $(IS_COMPILED),$(COMPILED)/bin,$(BIN))/python
BUILT := $(if $(IS_COMPILED),$(COMPILED)/.installed)

.DEFAULT_GOAL := help
.PHONY: help install demo test compiled test-compiled fuzz check format schema api providers demo-picture screenshots bench bench-verification bench-flat bench-stores bench-search bench-page bench-idle bench-guard crash clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

# $(call into_venv,WHAT,REQUIREMENT): make $(VENV) if it is missing, install, print each package, and set the stamp.
# The stamp shows whether pip succeeded: sh does not report the status of a command before a pipe.
define into_venv
	@$(BIN)/python -c 'import pip' 2>/dev/null || { \
		test -n "$(PYTHON)" || { echo "Gatehouse needs Python 3.11 or newer, with venv; try: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
		echo "Making $(VENV) with $$($(PYTHON) -V) ..."; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing $(1) into $(VENV) ..."
	@rm -f $@
	@{ $(PIP) $(2) && touch $@; } | awk '$$1 == "Downloading" || $$1 == "Using" { file = $$(NF - 2); sub(".*/", "", file); \
		split(file, name, "-"); print "  " name[1], name[2], $$(NF - 1), $$NF; fflush() }'
	@test -e $@
	@echo "Installed; $(VENV) takes $$(du -sh $(VENV) | cut -f 1)."
endef

$(VENV)/.demo: pyproject.toml deploy/constraints.txt
	$(call into_venv,Gatehouse and what it runs on (20 MB to download, 100 MB on disk, once),-e .)

$(VENV)/.installed: pyproject.toml deploy/constraints.txt
	$(call into_venv,Gatehouse and its test tools (175 MB to download, 760 MB on disk, once),-e '.[dev$(comma)judges]')

install: $(VENV)/.installed ## Make .venv with Gatehouse and its test tools

venv: $(RUNS) ## Make .venv with Gatehouse only

demo: venv ## Run a real gateway, send it examples of providers, and show the results
	@# On a terminal it is a job of its own: Ctrl-C ends the demo, which exits 0, and not make.
	@test ! -t 0 || set -m; $(BIN)/gatehouse demo; exit $$?

# How many tests run at a time.
JOBS ?= 2
# Which files have tests that are marked `alone`. They measure time or memory, or load the machine, so nothing runs beside them.
ALONE = $(sort $(shell grep -rl --include='test_*.py' 'mark\.alone' tests))
# The tests start hundreds of Python programs. They start faster if Python may keep what it compiles.
PYTEST := PYTHONDONTWRITEBYTECODE= GATEHOUSE_TEST_COMPILED=$(IS_COMPILED) $(RUNNER) -m pytest

test: install $(BUILT) ## Run all tests: JOBS=2 at a time, then the tests that need the machine alone
	@tests/acceptance/fetch_examples.sh
	@tests/bench/build_reference.sh
	@echo "Tests that run $(JOBS) at a time:"; $(PYTEST) -n $(JOBS) --dist worksteal -m 'not alone'; shared=$$?; \
	test $$shared -ne 2 || exit 2; \
	echo "Tests that run alone:"; $(PYTEST) -m alone $(ALONE); alone=$$?; \
	result() { test $$1 -eq 0 && echo passed || echo FAILED; }; \
	echo "Tests that run $(JOBS) at a time: $$(result $$shared). Tests that run alone: $$(result $$alone)."; \
	test $$shared$$alone -eq 0

$(COMPILED)/.installed: $(VENV)/.installed deploy/compiled_wheel.py $(shell find src -name '*.py' 2>/dev/null)
	@echo "Building a compiled wheel into dist/ (takes a minute or two) ..."
	@rm -rf $(COMPILED) dist/gatehouse_webhooks-*-cp*.whl
	@HATCH_BUILD_HOOKS_ENABLE=1 PIP_CONSTRAINT=deploy/constraints.txt $(BIN)/python -m pip wheel \
		--disable-pip-version-check -q --no-deps --wheel-dir dist .
	@$(BIN)/python -m venv --without-pip $(COMPILED)
	@$(BIN)/python -m pip --disable-pip-version-check -q --python $(COMPILED)/bin/python install --no-deps \
		dist/gatehouse_webhooks-*-cp*.whl
	@$(BIN)/python -c '$(PACKAGES)' > "$$($(COMPILED)/bin/python -c '$(PACKAGES)')/shared.pth"
	@touch $@

compiled: $(COMPILED)/.installed ## Build a compiled wheel into dist/, and install it into .venv-compiled

test-compiled: ## Run all tests on the compiled wheel
	@$(MAKE) --no-print-directory test BUILD=compiled

fuzz: install ## Run Hypothesis with new examples until a test fails, or until Ctrl-C
	@while GATEHOUSE_HYPOTHESIS=fuzz $(BIN)/python -m pytest -q -m hypothesis tests/unit tests/conformance; do :; done

check: install ## Check format, lint and types
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy

format: install ## Format the code, and apply safe fixes
	$(BIN)/ruff format src tests
	$(BIN)/ruff check --fix src tests

schema: install ## Write docs/gateway.schema.json from the config models
	$(BIN)/python -m gatehouse.reference.schema > docs/gateway.schema.json

api: install ## Write docs/openapi.json and docs/api.md from the operator server
	$(BIN)/python -m gatehouse.reference.openapi > docs/openapi.json
	$(BIN)/python -m gatehouse.reference.api > docs/api.md

providers: install ## Write docs/providers.md and docs/providers/ from the presets and their vectors
	$(BIN)/python -m gatehouse.reference.providers tests/vectors docs/providers.md

demo-picture: venv ## Write docs/images/demo.svg from a run of the demo
	$(BIN)/python -m gatehouse.reference.demo_picture docs/images/demo.svg

screenshots: install ## Write pictures of the operator page to docs/images/
	@tests/browser/fetch_chromium.sh
	@PYTHONPATH=tests $(BIN)/python -m browser.screenshots docs/images

# The applications that only the benchmark needs.
$(VENV)/.bench: $(VENV)/.installed
	$(call into_venv,the applications of the benchmark,-e '.[dev$(comma)bench]')

# BENCH=--quick takes a minute; BENCH="--write docs/benchmarks.md" writes the page. bench-stores has --quick,
# --rounds and --seconds too.
BENCH ?=

bench: $(VENV)/.bench $(BUILT) ## Compare the gateway with bare servers, hand-written receivers, and a compiled gateway
	@tests/bench/fetch_wrk.sh
	@tests/bench/fetch_express.sh
	@tests/bench/build_reference.sh
	@PYTHONPATH=tests $(RUNNER) -m bench $(BENCH)

bench-verification: install ## Compare the time of verification with that of the bare digest
	$(BIN)/python tests/bench/verification.py

bench-stores: install $(BUILT) ## Measure events per second for each store and number of workers, and for a bare handler
	@tests/bench/fetch_wrk.sh
	@PYTHONPATH=tests $(RUNNER) -m bench.throughput $(BENCH)

bench-idle: install ## Measure the memory of an idle gateway, and the processor time of the commands that ask it
	@PYTHONPATH=tests $(BIN)/python -m bench.idle

bench-guard: install $(BUILT) ## Compare the instructions per event with those on record (RECORD=1 records them)
	@tests/bench/fetch_valgrind.sh
	@PYTHONPATH=tests $(RUNNER) -m bench.instructions $(if $(RECORD),--record)

# SEARCH="--events 100000 --stores sqlite" is shorter. Needs 5 GB of disk.
SEARCH ?=

bench-search: install ## Measure searches in stores of a million events, and what they cost ingest
	@PYTHONPATH=tests $(BIN)/python -m bench.search $(SEARCH)

# PAGE="--parts screens --times 5" is shorter, and PAGE="--folder FOLDER" keeps the store. Needs 3 GB of disk.
PAGE ?=

bench-page: install ## Measure the screens of the operator page, what viewers cost ingest, and the start
	@tests/bench/fetch_wrk.sh
	@PYTHONPATH=tests $(BIN)/python -m bench.page $(PAGE)

# PART=keys, purge or pending: one part; FLAT="--keys 1000000 --rounds 2": smaller. Needs 5 GB of disk.
PART ?= keys purge pending
FLAT ?=

bench-flat: install $(BUILT) ## Measure ingest and deliveries with millions of keys, during a purge, and with a million pending
	@tests/bench/fetch_wrk.sh
	@PYTHONPATH=tests $(RUNNER) -m bench.flat --parts $(PART) $(FLAT)

# KILLS is how often the gateway is killed, and ACKS the number of acknowledgements needed. The other parts scale with KILLS.
# PARTS=soak SOAK=4h runs for a night.
KILLS ?= 200
ACKS ?= 100000
PARTS ?= kills failpoints migration sigterm backups power-cut power-loss replicas
SOAK ?= 1h

crash: install $(BUILT) ## Kill the gateway repeatedly under load, and check that no event is lost (KILLS=20 ACKS=5000 is shorter)
	@tests/crash/fetch_strace.sh
	@PYTHONPATH=tests $(RUNNER) -m crash --kills $(KILLS) --acks $(ACKS) --soak $(SOAK) --parts $(PARTS)

clean: ## Remove what the other commands made
	rm -rf $(VENV) $(COMPILED) dist .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis
