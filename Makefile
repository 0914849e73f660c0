# `make demo` and `make test` do all the set-up on a fresh machine: environment, install, data.
#
#   make demo    train, export, verify and use LeNet
#   make test    the tests that take a few minutes; make test-all: all of them, as CI does
#   make docs    the documentation site, into build/site
#   make check   format, lint, types
#   make gpu     on a machine with an NVIDIA GPU: its tests, trainings and speeds, into .zoo/gpu
#   make clean   remove what these made

VENV ?= .venv
PYTHON ?= python3
# Data, runs and exports of these targets stay inside the checkout.
export ZOO_HOME ?= $(CURDIR)/.zoo

# Tests start processes beside each other: idle threads of one soon give their core away.
export GOMP_SPINCOUNT ?= 100000

# Test files beside each other, one process a core.
WORKERS ?= --numprocesses auto --maxprocesses 4 --dist loadfile

INSTALLED := $(VENV)/.installed
BIN := $(VENV)/bin

.PHONY: setup data demo test test-all docs check format clean gpu gpu-train

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("fashion-zoo needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	@echo "installing into $(VENV): 6 GB with PyTorch and NVIDIA's libraries, some minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

data: $(INSTALLED)
	@$(BIN)/zoo data

demo: $(INSTALLED)
	@$(BIN)/python examples/demo.py

# What the web layout and examples/node take from npm; without it their tests are skipped, with the reason.
node_modules: package-lock.json
	@if ! command -v npm > /dev/null; then echo "npm is not here: nothing of it is tested"; \
	elif npm ci --silent --no-audit --no-fund; then touch $@; \
	else echo "npm ci failed: nothing of it is tested"; fi

test: data node_modules
	$(BIN)/pytest $(WORKERS) -m "not slow"

test-all: data node_modules
	$(BIN)/pytest $(WORKERS)

docs: $(INSTALLED)
	@$(BIN)/python -m tools.docs

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

gpu: data
	$(BIN)/python benchmarks/gpu.py --output $(ZOO_HOME)/gpu

# The name until version 0.2.
gpu-train: gpu

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .zoo node_modules build dist .pytest_cache .ruff_cache .mypy_cache
