# Two commands on a fresh machine: `make demo` and `make test`. Both install first, into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BACKEND ?= orpheus
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# On all cores; pip compiles on one. Not what nothing imports: tests, and thousands of models. What does not compile is
# code for another Python.
COMPILE = $(BIN)/python -m compileall -qq -j 0 -x '/(tests|transformers/models)/' $(VENV)/lib || true
# Longest modules first, in the order of tests/conftest.py.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test quick lint types gpu-wheels clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.new: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13) and "tts-train needs Python 3.10 to 3.13: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.eval: $(VENV)/.new
	$(PIP) -e '.[eval]'
	@$(COMPILE)
	@touch $@

$(VENV)/.test: $(VENV)/.new
	$(PIP) -e '.[test]' -e examples/tts-train-toy -e examples/tts-train-csm
	@# Their weights lie in the wheels; what they require is for training them.
	$(PIP) --no-deps resemblyzer distillmos xls-r-sqa
	@$(COMPILE)
	@touch $(VENV)/.eval $@

$(VENV)/.dev: $(VENV)/.test
	$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/.eval  ## the whole way on a small voice: offline, on a CPU, in minutes
	$(BIN)/tts-train demo --backend $(BACKEND)

test: $(VENV)/.test  ## all tests, on up to four processes
	$(PYTEST)

quick: $(VENV)/.test  ## the tests without the slow tier
	$(PYTEST) -m "not slow"

lint: $(VENV)/.dev  ## style and spelling
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell

types: $(VENV)/.dev  ## static types
	$(BIN)/mypy

gpu-wheels: $(VENV)/.test  ## what an acceptance run on a bare machine with a card needs besides the tree: .gpu-wheels/
	$(BIN)/python benchmarks/gpu_wheels.py

clean:  ## remove the environment
	rm -rf $(VENV)
