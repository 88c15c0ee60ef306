# make run           a demo: three local memcached servers and the proxy over them (Ctrl-C ends it)
# make test          the tests
# make test-long     those that take minutes, or need what is not on every machine: other projects' test suites, other clients and monitors
# make test-faults   those with failing servers, wires and workers, for longer: FAULT_SECONDS=180 in all, FAULT_SEED=1; with
#                    GMPROXY_TEST_MEMCACHED=PATH every second server is that memcached
# make lint          ruff (rules and format) and mypy
# make bench         CPU per request beside twemproxy's nutcracker
# make bench-report  the same and more, to docs/performance: BENCH_ARGUMENTS=--stored draws anew what was measured before
# make build         the virtual environment and the compiled modules alone
# make test-package  the Debian package, built, and installed in a clean Debian of its own
# make format        put the code into the form that lint wants
# make generated     what is made from the settings table: after every change of it
#
# Each installs what it needs first, on a fresh Debian too.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export GMPROXY_BUILD ?= require

SOURCES := setup.py pyproject.toml $(shell find gmproxy -name '*.py' -o -name '*.pyx' -o -name '*.pxd')
BUILT := $(VENV)/.built
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
TEST_ARGUMENTS ?=
FAULT_SECONDS ?= 180
FAULT_SEED ?= 1

LINTERS := $(VENV)/.linters

.PHONY: run test test-long lint format test-faults bench bench-report build test-package generated clean

run: $(BUILT)
	@exec $(BIN)/gmproxy --demo

test: $(BUILT)
	$(BIN)/python -m pytest tests -m "not long" $(TEST_ARGUMENTS)

test-long: $(BUILT)
	$(BIN)/python -m pytest tests -m long -v $(TEST_ARGUMENTS)

test-faults: $(BUILT)
	FAULT_SECONDS=$(FAULT_SECONDS) FAULT_SEED=$(FAULT_SEED) $(BIN)/python -m pytest tests/faults -v -s $(TEST_ARGUMENTS)

lint: $(BUILT) $(LINTERS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(LINTERS)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The versions are those of the extra `lint`: another ruff may format otherwise.
$(LINTERS): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(shell sed -n 's/^lint = \[\(.*\)\]$$/\1/p' pyproject.toml | tr -d '",')
	@touch $@

bench: $(BUILT)
	@./scripts/install-missing $(PYTHON) nutcracker:nutcracker gcc:gcc
	$(BIN)/python bench/run.py --gmproxy $(BIN)/gmproxy $(BENCH_ARGUMENTS)

bench-report: $(BUILT)
	@./scripts/install-missing $(PYTHON) nutcracker:nutcracker gcc:gcc strace:strace
	$(BIN)/python -c 'import matplotlib' 2>/dev/null || $(PIP) --no-build-isolation --editable '.[test,bench]'
	$(BIN)/python bench/publish.py --gmproxy $(BIN)/gmproxy $(BENCH_ARGUMENTS)

build: $(BUILT)

test-package:
	@./scripts/install-missing $(PYTHON) dpkg-buildpackage:dpkg-dev lintian:lintian debootstrap:debootstrap ip:iproute2
	@./scripts/install-missing $(PYTHON) $$(./scripts/unmet-build-depends)
	@$(AS_ROOT) ./scripts/test-package

generated: $(BUILT)
	$(BIN)/python scripts/option-table README.md
	$(BIN)/python scripts/sample-conf conf/gmproxy.conf
	$(BIN)/python scripts/man-options docs/man/gmproxy.8 docs/man/gmproxy.conf.5 docs/man/magent.8
	$(BIN)/python scripts/bash-completion conf/bash-completion

$(BUILT): $(SOURCES) scripts/install-missing
	@./scripts/install-missing $(PYTHON) memcached:memcached gcc:gcc
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) 'setuptools>=70.1' 'Cython>=0.29.32,<4'
	$(PIP) --no-build-isolation --editable '.[test]'
	@touch $@

clean:
	rm -rf build dist *.egg-info $(VENV) bench/loadgen
	find gmproxy tests bench -name __pycache__ -prune -exec rm -rf {} +
	find gmproxy -name '*.so' -delete; rm -f gmproxy/compiled_sources.json
