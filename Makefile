# demo, test and check make their own virtual environment when it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint check chaos docs dist clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

## The main job in small: data, pretraining, fine-tuning with two workers, the before/after curve.
demo: $(READY)
	$(BIN)/iqlft demo

## The default test suite, in three processes: they wait for workers and time a quarter of it.
test: $(READY)
	$(BIN)/python -m pytest -n 3 --dist worksteal

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
		tests/iqlft/gateway/test_authentication.py tests/iqlft/gateway/test_schedules.py \
		tests/test_minimal_install.py -m slow

## The documentation as a site, in build/site. Everything tracked lies beside its pages, so that links
## between them hold.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	rm -rf build/docs build/site
	mkdir -p build/docs
	git ls-files --cached --others --exclude-standard | tar --files-from - --create | tar --extract --directory build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file docs/mkdocs.yml

## Both packages as wheels and source archives, in dist, the same bytes from the same commit.
dist: $(READY)
	$(BIN)/python -m pip install --quiet build
	rm -rf dist
	export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); \
	$(BIN)/python -m build --outdir dist . && $(BIN)/python -m build --outdir dist workers

## Removes the virtual environment and caches; runs and datasets stay.
clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
