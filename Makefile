# make demo   installs Balsam and runs the demo campaign
# make test   installs what the tests need and runs every check and test
# make check  lint, types, layers, generated references
# make bench  benchmarks, as JSON lines and a table
# make chaos  random faults on small campaigns: SEED=… ROUNDS=50 ROUND=… DATABASE=sqlite|postgresql|both SERVICE=yes

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test check bench chaos docs clean

demo: $(VENV)/demo.installed
	$(BIN)/balsam quickstart --directory demo --keep

test: $(VENV)/test.installed check
	tools/install-test-needs
	tools/reap $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(VENV)/test.installed
	$(BIN)/ruff format --check src tests bench docs examples integrations
	$(BIN)/ruff check src tests bench docs examples integrations
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

bench: $(VENV)/test.installed
	$(BIN)/python bench/run.py $(BENCH)

chaos: $(VENV)/test.installed
	$(BIN)/python -m tests.chaos $(addprefix --seed ,$(SEED)) $(addprefix --rounds ,$(ROUNDS)) \
	    $(addprefix --round ,$(ROUND)) $(addprefix --database ,$(DATABASE)) \
	    $(if $(SERVICE),--service)

docs: $(VENV)/test.installed
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) demo site build dist .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	$(BIN)/python -m compileall -q src
	touch $@

$(VENV)/test.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,check,docs]'
	$(BIN)/python -m compileall -q src
	touch $@
