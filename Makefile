# Needs Python 3.11+ and make; everything else is installed into .venv and node_modules.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv/bin
# One thread each: tests start many processes, and must not fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(VENV)/python -m pytest -q
# "CI" keeps Hardhat from asking, counting and fetching news.
HARDHAT := CI=true node_modules/.bin/hardhat
PRETTIER_PATHS := "contracts/**/*.sol" hardhat.config.js package.json

# The pinned Node first, whatever the system has.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup demo test test-python test-contracts test-long audit-contracts lint format contracts bench constraints clean

help:
	@echo "make demo             the whole system on this machine, with a cheat that gets caught (KEEP=1: stays up)"
	@echo "make test             Solidity and Python tests"
	@echo "make test-long        the tests that take many minutes"
	@echo "make audit-contracts  long invariants, coverage, Slither, planted faults, gas: a line of figures each"
	@echo "make lint             formatters, types, warnings, import direction"
	@echo "make format           rewrite the sources as lint wants them"
	@echo "make contracts        compile the contracts into efedllm/chain/artifacts"
	@echo "make bench            every benchmark into benchmarks/results (B=name: one of them)"
	@echo "make setup            .venv and node_modules; the other targets do it by themselves"
	@echo "make constraints      pin the newest Python packages that pyproject.toml allows"
	@echo "make clean            remove build outputs and caches"

setup:
	$(if $(PYTHON),,$(error Python 3.11 or later is needed; name one with: make setup PYTHON=/path/to/python3))
	@$(PYTHON) tools/setup.py

demo: setup
	@$(VENV)/python -m chain_scripts.demo $(if $(KEEP),--keep)

test: test-contracts test-python

test-contracts: setup
	$(HARDHAT) test solidity

# After the contracts, so that pytest's closing line is the last one.
test-python: setup $(if $(filter test,$(MAKECMDGOALS)),test-contracts)
	$(PYTEST)

# The summary shows what passing tests print: inputs of the fuzzer, kills, requests.
test-long: setup
	$(VENV)/python -m tools.audit invariants
	$(PYTEST) -rP -m "long and not gpu" --timeout 3600

# PARTS: some of invariants, coverage, slither, mutation, gas.
audit-contracts: setup
	@$(VENV)/python -m tools.audit $(PARTS)

lint: setup
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	node_modules/.bin/prettier --check $(PRETTIER_PATHS)
	$(VENV)/python -m tools.contracts --check
	$(PYTEST) tests/house/test_imports.py

format: setup
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .
	node_modules/.bin/prettier --write $(PRETTIER_PATHS)

contracts: setup
	$(VENV)/python -m tools.contracts

bench: setup
	$(VENV)/python -m benchmarks $(B)

constraints: setup
	$(VENV)/python -m tools.pin

clean:
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -path ./node_modules -prune -o -name __pycache__ -type d -exec rm -rf {} +
