# Two commands matter: `make demo` and `make test`. Both install what they need into ./.venv from the lock file.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
# Hospital networks sign their traffic anew: trust the certificates the machine trusts.
export UV_SYSTEM_CERTS ?= 1

.PHONY: help install demo test ui postgres slow lint types arrow drift docs

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.uv/bin/uv:
	@echo "Installing uv into ./.uv"
	@(command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv .uv || python3 -m venv .uv) && .uv/bin/pip install --quiet uv

install: $(if $(filter .uv/bin/uv,$(UV)),.uv/bin/uv) ## the environment, from the lock file
	@$(UV) sync --frozen --all-extras --quiet --compile-bytecode

demo: install ## simulate a four-site network, run everything, print what was found
	@$(RUN) ranvier demo --home demo-home --fresh

test: install ## the test suite that fits in 15 minutes
	$(RUN) pytest -n 2 --dist loadfile -m "not slow and not ui and not postgres"

ui: install ## the Dagster UI, driven as a user would, in four minutes
	$(RUN) pytest -m ui

postgres: install ## the PostgreSQL mirror on a server that the tests start
	$(RUN) pytest -m postgres

slow: install ## the long tests: planted faults, real scans, kills, the Dagster UI, PostgreSQL
	$(RUN) pytest -m "slow or ui or postgres"

lint: install ## ruff: style and formatting
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: install ## mypy, strict
	$(RUN) mypy

arrow: install ## the import arrow between the rooms
	$(RUN) lint-imports

drift: install ## what is generated from the dictionary still matches it
	$(RUN) python -m warehouse.catalogue --check

docs: install ## the documentation, into ./site
	NO_MKDOCS_2_WARNING=true $(RUN) mkdocs build --strict --quiet
