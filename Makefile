# What a developer does, from nothing but Python, pip's index and make. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE = uv pip compile --quiet --universal -p 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate $(if $(UPGRADE),--upgrade)

# Most tests wait most of the time. A file's tests stay together.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
WORKERS ?= 2
MINUTES ?= 60

.DEFAULT_GOAL := help
.PHONY: help run demo test check reliability soak lock clean
.DELETE_ON_ERROR:

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/'

run: $(VENV)/.run ## start the node (the first time: make .venv and install what requirements.lock pins)
	@exec $(BIN)/masa-node run

demo: $(VENV)/.run ## a whole network on this machine answers a question; needs nothing, leaves nothing
	@exec $(BIN)/masa-node demo

test: $(VENV)/.dev ## the quick suites: loopback only, no service, about two minutes
	$(PYTEST) -m "not slow and not reliability and not engine"

check: $(VENV)/.dev ## lint, format, types and every suite; the engine suite where MASA_TEST_ENGINE names its folder
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
ifdef MASA_TEST_ENGINE
	$(PYTEST) -m "not reliability"
else
	@echo "The engine suite is skipped: MASA_TEST_ENGINE is not set."
	$(PYTEST) -m "not engine and not reliability"
endif

reliability: $(VENV)/.dev ## the long suites: hundreds of simulated nodes, fuzzing, faults at full size (docs/reliability.md)
	$(BIN)/python -m pytest -m reliability

soak: $(VENV)/.dev ## an hour of five busy nodes, while nodes and model servers fail; MINUTES=3 for a first impression
	$(BIN)/python bench/soak --minutes $(MINUTES)

lock: ## pin pyproject.toml's dependencies anew, keeping versions that still fit (UPGRADE=1: the newest)
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder"; \
	"$$folder/bin/pip" --disable-pip-version-check --quiet install uv; \
	PATH="$$folder/bin:$$PATH"; \
	$(COMPILE) pyproject.toml -o requirements.lock; \
	$(COMPILE) --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## remove .venv, the test engine, caches and build results
	rm -rf $(VENV) .engine .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: nothing is installed again unless what it was installed from has changed.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("masa-node needs Python 3.11 or newer; name one: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv --clear $(VENV) || { echo "No venv: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.run: $(VENV)/.made requirements.lock pyproject.toml
	@echo "Installing into $(VENV), this once"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps -e .
	@touch $@

# Holds all of requirements.lock in the same versions, so .run is done with it.
$(VENV)/.dev: $(VENV)/.made requirements.lock requirements-dev.lock pyproject.toml
	@echo "Installing the development packages into $(VENV), this once"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps -e .
	@touch $(VENV)/.run $@
