# Everything starts from Python (3.11 or later) and make: `make demo`, `make test`.
# Each target builds .venv when it is missing or when the dependencies changed, and goes on at once when it is not.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e
JOBS ?= 2
TEST_ARGS ?=
DEMO_ARGS ?= --out demo_out
NEWEST ?= .venv-newest

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-newest lint format docs bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

demo: $(VENV)/.installed  ## train on generated images, detect objects, open demo_out/report.html
	$(BIN)/boxel demo $(DEMO_ARGS)

# One thread per worker: more would only compete for the cores.
test: $(VENV)/.installed-test  ## the tests (JOBS=2 workers; TEST_ARGS are handed to pytest)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(TEST_ARGS)

test-slow: $(VENV)/.installed-test  ## the tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m slow $(TEST_ARGS)

# Not in continuous integration: it says what the next release of a library breaks.
test-newest:  ## the tests with the newest versions that pyproject.toml allows, in a fresh $(NEWEST)
	rm -rf $(NEWEST)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --disable-pip-version-check --quiet --upgrade -e '.[test]'
	$(NEWEST)/bin/python -m pip list --disable-pip-version-check
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -n $(JOBS) --dist loadgroup $(TEST_ARGS)

lint: $(VENV)/.installed-dev  ## style, types, and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## rewrite in the house style
	$(BIN)/ruff check --fix-only --exit-zero --quiet
	$(BIN)/ruff format

docs: $(VENV)/.installed-dev  ## the documentation as a site: open build/docs/index.html; a broken link is an error
	$(BIN)/python -m sphinx --fresh-env --fail-on-warning --quiet -c docs -d build/doctrees . build/docs

bench: $(VENV)/.installed-dev  ## the benchmarks, one file per topic, but for accuracy.py, which takes hours
	@set -e; for topic in $(filter-out benchmarks/accuracy%.py, $(wildcard benchmarks/*.py)); do echo "== $$topic"; $(BIN)/python $$topic; done

clean:  ## remove what these targets made
	rm -rf $(VENV) $(NEWEST) demo_out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Boxel needs Python 3.11 or later; name one: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# A stamp is newer than what it was installed from; a larger set of extras serves the smaller ones too.
$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing Boxel with its development tools into $(VENV) (once, a few minutes)"
	@$(PIP_INSTALL) '.[dev]'
	@touch $(VENV)/.installed $(VENV)/.installed-test $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing Boxel with its test tools into $(VENV) (once, a few minutes)"
	@$(PIP_INSTALL) '.[test]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing Boxel into $(VENV) (once, a few minutes)"
	@$(PIP_INSTALL) .
	@touch $@
