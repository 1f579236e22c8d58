# Works on a fresh machine that has Python 3.11 or newer and make; everything else goes into .venv.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup check test test-long demo up bench lock clean

VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup
MLSERVER := $(VENV)/mlserver/.setup
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3 python,\
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
UV := $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)
COMPILE = $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --custom-compile-command 'make lock'

# Whatever the shell says: without byte code each start compiles thousands of files anew, which takes longer than all else.
export PYTHONDONTWRITEBYTECODE :=

help: ## show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP) ## install everything into .venv, as pinned in requirements-dev.lock

check: $(SETUP) ## formatting, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(SETUP) $(MLSERVER) ## run every test, two at a time, but those that say how soon something happens (of the benchmarks: test-long)
	OMP_NUM_THREADS=1 NPROC=1 $(BIN)/pytest -m "not alone and not waiting and not long" --numprocesses 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/pytest -m waiting --numprocesses 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/pytest -m alone

test-long: $(SETUP) ## run the tests of the benchmarks
	$(BIN)/pytest -m long

demo: $(SETUP) ## train one network in PyTorch and in JAX, and serve each from either
	@$(BIN)/tandem demo

up: $(SETUP) ## serve on http://127.0.0.1:8000 until Ctrl-C
	@$(BIN)/tandem up

bench: $(SETUP) ## measure training, start-up and prediction rates, beside other servers
	$(BIN)/python -m benchmarks.architectures
	$(BIN)/python -m benchmarks.job_start
	$(BIN)/python -m benchmarks.predict
	$(BIN)/python -m benchmarks.serving

lock: $(UV) ## resolve the newest allowed dependencies into the lock files
	$(COMPILE) --upgrade --output-file requirements.lock
	$(COMPILE) --group dev --constraints requirements.lock --upgrade --output-file requirements-dev.lock
	$(COMPILE) --extra gpu --constraints requirements.lock --upgrade --output-file requirements-gpu.lock
	echo 'mlserver>=1.7' | $(subst pyproject.toml,-,$(COMPILE)) --no-annotate --upgrade --output-file requirements-mlserver.lock

clean: ## remove .venv and caches; keeps data
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find app workers models tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(SETUP): requirements-dev.lock pyproject.toml | $(BIN)/python $(UV)
	$(UV) pip install --quiet --python $(BIN)/python --requirements requirements-dev.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

# A client that one test runs. It wants an older FastAPI than ours, and no Python after 3.12: where it cannot be
# installed, the test is skipped.
$(MLSERVER): requirements-mlserver.lock | $(SETUP)
	-$(UV) venv --quiet --clear --python $(BIN)/python $(VENV)/mlserver && \
	$(UV) pip install --quiet --python $(VENV)/mlserver/bin/python --requirements requirements-mlserver.lock
	@mkdir -p $(VENV)/mlserver && touch $@

# Order-only: a new interpreter or a newer uv on the machine does not reinstall anything.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Tandem needs Python 3.11 or newer; none was found on PATH." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(BIN)/uv: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
