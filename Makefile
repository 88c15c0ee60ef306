# make run     a demo: three local memcached servers and the proxy over them (Ctrl-C ends it)
# make test    the tests
# make bench   CPU per request beside twemproxy's nutcracker
# make build   the virtual environment and the compiled modules alone
#
# Each installs what it needs first, on a fresh Debian too.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export GMPROXY_BUILD ?= require

SOURCES := setup.py pyproject.toml $(shell find gmproxy -name '*.py' -o -name '*.pyx' -o -name '*.pxd')
BUILT := $(VENV)/.built
TEST_ARGUMENTS ?=

.PHONY: run test bench build clean

run: $(BUILT)
	@exec $(BIN)/gmproxy --demo

test: $(BUILT)
	$(BIN)/python -m pytest tests $(TEST_ARGUMENTS)

bench: $(BUILT)
	@./scripts/need-packages nutcracker:nutcracker
	$(BIN)/python bench/run.py --gmproxy $(BIN)/gmproxy $(BENCH_ARGUMENTS)

build: $(BUILT)

$(BUILT): $(SOURCES) scripts/need-packages
	@./scripts/need-packages memcached:memcached gcc:gcc
	@./scripts/need-python $(PYTHON)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'setuptools>=61' wheel 'Cython>=0.29.32,<4'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[test]'
	@touch $@

clean:
	rm -rf build dist *.egg-info $(VENV) bench/loadgen
	find gmproxy tests bench -name __pycache__ -prune -exec rm -rf {} +
	rm -f gmproxy/_c/*.so
