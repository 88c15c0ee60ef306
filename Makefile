# make run           a demo: three local memcached servers and the proxy over them (Ctrl-C ends it), of the compiled modules if make build
#                    has made them, else of the pure Python build
# make test          the tests, in TEST_PROCESSES=4 processes
# make test-injection  an exception at each point of the program where one may be raised, in an instrumented copy
# make test-long     the tests that take minutes, or need what is not on every machine: other projects' test suites, other clients and monitors
# make test-faults   those with failing servers, wires and workers, for longer: FAULT_SECONDS=180 in all, FAULT_SEED=1; with
#                    GMPROXY_TEST_MEMCACHED=PATH every second server is that memcached
# make coverage      which lines the tests run, those of tests/injection left out: in the terminal, and as HTML in build/coverage. Takes three
#                    times as long as make test or more
# make test-matrix   unit, placement, proxy and process tests with each installed Python, the oldest and the newest gevent, and in Debian 13;
#                    MATRIX_ARGUMENTS="--all --pure ..." as in scripts/test-matrix
# make lint          ruff (rules and format) and mypy
# make bench         CPU per request beside twemproxy's nutcracker
# make bench-report  the same and more, to docs/performance: BENCH_ARGUMENTS=--stored draws anew what was measured before
# make build         the virtual environment and the compiled modules alone: minutes the first time, then only what was changed
# make dist          source distribution and wheel, in dist/
# make test-package  the Debian package, built, and installed in a clean Debian of its own, without systemd and with it; with SUITE=trixie
#                    for Debian 13, with TESTS=yes too with the tests in that build
# make format        put the code into the form that lint wants
# make hooks         checks before each commit, by pre-commit: lint, generated files, whitespace, the message
# make generated     what is made from the settings table: after every change of it
#
# Each installs what it needs first, on a fresh Debian too.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export GMPROXY_BUILD ?= require

SOURCES := setup.py pyproject.toml $(shell find gmproxy -name '*.py' -o -name '*.pyx' -o -name '*.pxd')
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built
TEST_TOOLS := $(VENV)/.test-tools
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
TEST_ARGUMENTS ?=
# Most tests wait for processes: more of them run at once than the machine has processors. So all their times are twice as long.
TEST_PROCESSES ?= 4
export GMPROXY_TEST_TICK ?= 2
# Seconds after which a test that hangs fails.
TEST_TIMEOUT ?= 600
PARALLEL := -n $(TEST_PROCESSES) --dist worksteal --timeout $(TEST_TIMEOUT)
FAULT_SECONDS ?= 180
FAULT_SEED ?= 1

LINTERS := $(VENV)/.linters

# The packages of a list in pyproject.toml, such as an extra, each in quotes.
packages = $(shell sed -n 's/^$(1) = \[\(.*\)\]$$/\1/p' pyproject.toml | tr -d ,)

.PHONY: run test test-injection test-long coverage test-matrix lint format test-faults bench bench-report build dist test-package hooks generated clean

run: $(INSTALLED)
	@exec ./scripts/run-demo $(BIN)

test: $(BUILT) $(TEST_TOOLS)
	$(BIN)/python -m pytest tests -m "not long and not injection" $(PARALLEL) $(TEST_ARGUMENTS)

test-injection: $(BUILT) $(TEST_TOOLS)
	$(BIN)/python -m pytest tests/injection $(PARALLEL) --timeout 1800 $(TEST_ARGUMENTS)

test-long: $(BUILT) $(TEST_TOOLS)
	$(BIN)/python -m pytest tests -m long -v $(TEST_ARGUMENTS)

test-faults: $(BUILT) $(TEST_TOOLS)
	FAULT_SECONDS=$(FAULT_SECONDS) FAULT_SEED=$(FAULT_SEED) $(BIN)/python -m pytest tests/faults -v -s $(TEST_ARGUMENTS)

coverage: $(BUILT) $(TEST_TOOLS)
	@$(BIN)/python -c 'import coverage' 2>/dev/null || $(PIP) $(call packages,coverage)
	@./scripts/coverage $(BIN)/python $(PARALLEL) $(TEST_ARGUMENTS)

test-matrix:
	@./scripts/install-missing $(PYTHON) memcached:memcached gcc:gcc Python.h:python3-dev debootstrap:debootstrap ip:iproute2
	@./scripts/test-matrix $(MATRIX_ARGUMENTS)

lint: $(BUILT) $(LINTERS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(LINTERS)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The versions are those of the extra `lint`: another ruff may format otherwise.
$(LINTERS): pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) $(call packages,lint)
	@touch $@

bench: $(BUILT)
	@./scripts/install-missing $(PYTHON) nutcracker:nutcracker gcc:gcc
	$(BIN)/python bench/run.py --gmproxy $(BIN)/gmproxy $(BENCH_ARGUMENTS)

bench-report: $(BUILT)
	@./scripts/install-missing $(PYTHON) nutcracker:nutcracker gcc:gcc strace:strace
	$(BIN)/python -c 'import matplotlib' 2>/dev/null || $(PIP) $(call packages,bench)
	$(BIN)/python bench/publish.py --gmproxy $(BIN)/gmproxy $(BENCH_ARGUMENTS)

build: $(BUILT)

# The wheel is built from the source distribution, each in an environment of its own. auditwheel gives it the name of the oldest glibc that will do.
dist: $(INSTALLED)
	@./scripts/install-missing $(PYTHON) gcc:gcc Python.h:python3-dev
	@echo "== installing in $(VENV):" $(call packages,dist)
	@$(PIP) $(call packages,dist)
	@rm -rf dist
	$(BIN)/python -m build
	@export PATH="$(abspath $(BIN)):$$PATH"; for wheel in dist/*-linux_*.whl; do \
	    test ! -e "$$wheel" || { auditwheel repair --wheel-dir dist "$$wheel" && rm "$$wheel"; } || exit; done
	$(BIN)/python -m twine check --strict dist/*

test-package:
	@./scripts/install-missing $(PYTHON) dpkg-buildpackage:dpkg-dev lintian:lintian debootstrap:debootstrap ip:iproute2
	@./scripts/install-missing $(PYTHON) $$(./scripts/unmet-build-depends)
	@$(AS_ROOT) ./scripts/test-package

hooks: $(LINTERS) $(INSTALLED)
	$(PIP) $(call packages,hooks)
	$(BIN)/python -m pre_commit install

generated: export GMPROXY_PURE = 1
generated: $(INSTALLED)
	$(BIN)/python scripts/option-table docs/options.md
	$(BIN)/python scripts/replica-table docs/replicas.md
	$(BIN)/python scripts/sample-conf conf/gmproxy.conf
	$(BIN)/python scripts/man-options docs/man/gmproxy.8 docs/man/gmproxy.conf.5 docs/man/magent.8
	$(BIN)/python scripts/bash-completion conf/bash-completion

# Each step says what it is before it begins: on a slow machine it takes its time.
$(INSTALLED): setup.py pyproject.toml scripts/install-missing
	@./scripts/install-missing $(PYTHON) memcached:memcached
	@test -x $(BIN)/pip || { echo "== creating the virtual environment $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "== installing in $(VENV): setuptools"
	@$(PIP) 'setuptools>=70.1'
	@echo "== installing in $(VENV):" $(call packages,dependencies)
	@GMPROXY_BUILD=pure $(PIP) --no-build-isolation --editable .
	@touch $@

$(TEST_TOOLS): $(INSTALLED)
	@echo "== installing in $(VENV):" $(call packages,test)
	@$(PIP) $(call packages,test)
	@touch $@

$(BUILT): $(INSTALLED) $(SOURCES)
	@./scripts/install-missing $(PYTHON) memcached:memcached gcc:gcc Python.h:python3-dev
	@$(BIN)/python -c 'import Cython' 2>/dev/null || { echo "== installing in $(VENV): Cython"; $(PIP) 'Cython>=0.29.32,<4'; }
	@echo "== compiling what was changed: minutes the first time"
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

clean:
	rm -rf build dist *.egg-info $(VENV) bench/loadgen
	find gmproxy tests bench -name __pycache__ -prune -exec rm -rf {} +
	find gmproxy -name '*.so' -delete; rm -f gmproxy/compiled_sources.json
