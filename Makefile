# make demo   environment, then the whole chain on generated tissue
# make test   environment if needed, then every test
# make help   the rest; JOBS=4 lets the tests have four processes

.DEFAULT_GOAL := help
.PHONY: help setup setup-core environment environment-core lock demo pictures lint test test-unit test-core test-e2e test-long
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
ARGS ?=
JOBS ?= 2
PARALLEL = --numprocesses $(JOBS) --dist loadfile

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: ## prepare .venv (again: nothing to do, under a second)
	@scripts/setup.sh $(ARGS)

# What the targets below need; ARGS is theirs.
environment:
	@scripts/setup.sh

environment-core:
	@scripts/setup.sh --core

setup-core: ## prepare .venv-core, the environment without torch
	@scripts/setup.sh --core $(ARGS)

lock: ## requirements.lock, requirements-core.lock and conda.yaml from pyproject.toml (ARGS=--upgrade for newer)
	@scripts/setup.sh --lock $(ARGS)

demo: environment ## the whole chain on generated tissue: prepare, train, tune, ensemble, submit
	@$(BIN)/hubmap-ml demo

pictures: environment ## docs/pictures of the demo in this folder's store (after make demo; needs chromium)
	$(BIN)/python scripts/make_pictures.py $(ARGS)

lint: environment ## ruff, mypy, import rules, dependency files in step
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_dependencies.py
	$(BIN)/python scripts/check_stages.py

# Cheap first, so that a slip is known within the minute; each part stops the rest.
test: ## the environment if needed, then every test but the long ones
	@$(MAKE) lint
	@$(MAKE) test-unit
	@$(MAKE) test-core
	@$(MAKE) test-e2e

test-unit: environment ## the rooms, each for itself
	$(BIN)/python -m pytest --quiet $(PARALLEL) --ignore tests/e2e --ignore tests/core_env --ignore tests/long $(ARGS)

test-core: environment-core ## without torch: evaluate, tune, ensemble from Parquet
	.venv-core/bin/python -m pytest --quiet tests/core_env $(ARGS)

test-e2e: environment environment-core ## entry points for real
	$(BIN)/python -m pytest --quiet $(PARALLEL) tests/e2e $(ARGS)

test-long: environment ## proofs that take longer than a test run should
	$(BIN)/python -m pytest -m long $(ARGS)
