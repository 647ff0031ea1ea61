# Needs Python 3.11+ and make; everything else is installed into .venv and node_modules.
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3.14 python3))
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: setup
setup:
	@$(PYTHON) tools/setup.py
