# demo, test and check make their own virtual environment when it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint check chaos clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

## The main job in small: data, pretraining, fine-tuning with two workers, the before/after curve.
demo: $(READY)
	$(BIN)/iqlft demo

## The default test suite, in two processes.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal

## Format, lint, types and import contracts.
lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

## Those and the tests: what CI runs.
check: lint test

## Workers and learners killed, cut off, frozen and attacked: the demonstrations of the wire, with a
## table of figures.
chaos: $(READY)
	$(BIN)/python -m pytest tests/chaos tests/iqlft/gateway/test_gateway_fuzz.py \
		tests/iqlft/gateway/test_authentication.py tests/test_minimal_install.py -m slow

## Removes the virtual environment and caches; runs and datasets stay.
clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
