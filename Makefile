# `make demo` and `make test` are all a fresh machine needs; each installs what is missing into .venv first.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# PyTorch's own index of CPU builds, asked only where pip's usual places have none.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: install clients demo test lint bench lock lock-clients clean

install: .venv/installed

.venv/installed: requirements.lock torch-cpu.lock pyproject.toml serve/vllm_alias/pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Potstill needs Python 3.11: install it, or name it with PYTHON=/path/to/python3.11."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --progress-bar on --no-deps --require-hashes -r torch-cpu.lock \
	  || $(PIP) install --progress-bar on --no-deps --require-hashes --index-url $(TORCH_INDEX) -r torch-cpu.lock
	$(PIP) install --progress-bar on --no-deps --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation ./serve/vllm_alias
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

# Clients of other projects, which tests run through the relay; each of the three has an environment of its own.
clients:
	@$(MAKE) --no-print-directory -j 3 .venv-clients/installed .venv-aider/installed tests/clients/node_modules/installed

.venv-clients/installed: tests/clients/requirements.lock
.venv-aider/installed: tests/clients/aider.lock
.venv-clients/installed .venv-aider/installed:
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --no-compile --no-deps --require-hashes -r $<
	touch $@

tests/clients/node_modules/installed: tests/clients/package-lock.json tests/clients/.npmrc
	@if command -v npm >/dev/null; then npm --prefix tests/clients ci && touch $@; \
	  else echo "npm is not on PATH: tests of Node's clients will be skipped."; fi

demo: install
	$(BIN)/potstill demo

test: install clients
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: install
	$(BIN)/python -m benchmarks

# Needs uv. torch* companions are left out: their PyPI builds do not fit a CPU torch; triton is of no use without a GPU.
lock:
	.ci/lock $(LOCK_OPTIONS)

# Needs uv and npm.
lock-clients:
	for of in requirements aider; do uv pip compile --quiet --generate-hashes --no-annotate --python-version 3.11 $(LOCK_OPTIONS) \
	  --custom-compile-command "make lock-clients" tests/clients/$$of.in -o tests/clients/$$of.lock; done
	npm --prefix tests/clients install --package-lock-only

clean:
	rm -rf .venv .venv-clients .venv-aider tests/clients/node_modules build dist *.egg-info
