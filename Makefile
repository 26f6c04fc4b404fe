# `make demo` and `make test` are all a fresh machine needs; each installs what is missing into .venv first.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# PyTorch's own index of CPU builds, asked only where pip's usual places have none.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: install demo test lint bench lock clean

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

demo: install
	$(BIN)/potstill demo

test: install
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

clean:
	rm -rf .venv build dist *.egg-info
