# What one runs here is what CI runs. Works with plain venv and pip; uses uv where it is present. GNU make 3.81 and later.
#
#   make run     three nodes and a front on loopback, with sample data, in ./pando_data (Ctrl-C stops all, again goes on)
#   make test    lint, types, all tests but the long ones      make quick   unit tests that take no time
#   make full    everything, long runs too                     make lint    ruff and mypy
#   make bench   benchmarks; BENCH=name runs one               make lock    pin the newest versions (needs uv)

VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell $(name) -c \
	'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
UV     ?= $(shell command -v uv 2>/dev/null)
DIR    ?= ./pando_data
HTTP   ?= 127.0.0.1:8090
NODES  ?= 3
XDIST  ?= -n 2
BENCH  ?=

.DEFAULT_GOAL := help
.PHONY: help run test quick full lint format docs bench lock clean

help:
	@sed -n 's/^#  *\(make .*\)/  \1/p' Makefile

# -- environments: a stamp file each, so that the second run starts at once ----------------------------------------------

ifeq ($(UV),)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
else
INSTALL := $(UV) pip install --quiet --python $(BIN)/python
endif

$(VENV)/made:
	@test -n "$(PYTHON)" || { echo "Pando needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@$(if $(UV),$(UV) venv --quiet --python "$$(command -v $(PYTHON))" --allow-existing $(VENV),$(PYTHON) -m venv $(VENV))
	@touch $@

$(VENV)/run-installed: $(VENV)/made requirements.lock pyproject.toml
	@echo "installing the locked dependencies"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/test-installed: $(VENV)/run-installed requirements-test.lock
	@echo "installing the locked test dependencies"
	@$(INSTALL) --require-hashes -r requirements-test.lock
	@touch $@

# -- running ------------------------------------------------------------------------------------------------------------

run: $(VENV)/run-installed
	@exec $(BIN)/pando up --dir $(DIR) --http $(HTTP) --nodes $(NODES)

# -- checking -----------------------------------------------------------------------------------------------------------

test: lint
	$(BIN)/python -m pytest -m "not full" $(XDIST)

quick: $(VENV)/test-installed
	$(BIN)/python -m pytest -m "not slow and not full" tests/unit tests/docs

full: lint
	$(BIN)/python -m pytest -m "not alone" $(XDIST) --timeout 7200
	$(BIN)/python -m pytest -m alone --timeout 7200

lint: $(VENV)/test-installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/test-installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# -- making -------------------------------------------------------------------------------------------------------------

docs: $(VENV)/test-installed
	$(BIN)/python tests/docs/pages.py

bench: $(VENV)/test-installed
	$(BIN)/python -m benchmarks $(BENCH)

LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --upgrade pyproject.toml

lock:
	@test -n "$(UV)" || { echo "make lock needs uv: install it, or say make lock UV=/path/to/uv" >&2; exit 1; }
	@echo "setuptools>=77" > build-requires.tmp
	$(LOCK) --extra sample build-requires.tmp --output-file requirements.lock
	$(LOCK) --extra sample --extra test build-requires.tmp --constraints requirements.lock --output-file requirements-test.lock
	@rm -f build-requires.tmp

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
