# Two commands on a fresh machine: `make demo` and `make test`. Both install first, into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BACKEND ?= orpheus

.PHONY: help demo test quick lint types gpu-wheels clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13) and "tts-train needs Python 3.10 to 3.13: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.eval: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[eval]'
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]' -e examples/tts-train-toy
	@# Their weights lie in the wheels; what they require is for training them.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps resemblyzer distillmos xls-r-sqa
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.eval  ## the whole way on a small voice: offline, on a CPU, in minutes
	$(BIN)/tts-train demo --backend $(BACKEND)

test: $(VENV)/.test  ## all tests, on up to four processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

quick: $(VENV)/.test  ## the tests without the slow tier
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m "not slow"

lint: $(VENV)/.dev  ## style and spelling
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell

types: $(VENV)/.dev  ## static types
	$(BIN)/mypy

gpu-wheels: $(VENV)/.test  ## what an acceptance run on a bare machine with a card needs besides the tree: .gpu-wheels/
	$(BIN)/python benchmarks/gpu_wheels.py

clean:  ## remove the environment
	rm -rf $(VENV)
