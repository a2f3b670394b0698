# What can be done with this repository? `make help` lists it.
#
# ARGS passes words on: make test ARGS="-k reserve -x", make rush ARGS="--seats 500 --buyers 100".

.DEFAULT_GOAL := help
.PHONY: help setup run up down status test faults check format contracts bench rush lock clean

BIN := .venv/bin
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv from the lock file (every other target does it when needed)
	@ops/setup.sh

run: setup ## Start everything, ready to sell; Ctrl-C stops all of it
	@exec $(BIN)/boxoffice run

up: setup ## Start everything in the background
	@$(BIN)/boxoffice up

down: setup ## Stop everything
	@$(BIN)/boxoffice down

status: setup ## What runs, where, since when
	@$(BIN)/boxoffice status

# The tests that kill servers come after the others, one at a time: they would disturb each other, and the clock of the rest.
# Three at once on two cores, because the others spend most of their time waiting.
test: setup ## The whole test suite, on real servers of its own (ARGS for pytest)
	@$(BIN)/pytest -n 3 --dist loadfile -m "not slow" --ignore tests/faults $(ARGS)
	@$(BIN)/pytest -m "not slow" tests/faults $(ARGS)

faults: setup ## The slow tests: crashes, outages, soak runs
	@$(BIN)/pytest -m slow $(ARGS)

check: setup ## Format, lint, types, import rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Format the code and mend what lint can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

contracts: setup ## Write contracts/openapi.json and asyncapi.json anew from the code
	@$(BIN)/python -m ops.contract_files

bench: setup ## The figures of the README, measured on this machine
	@$(BIN)/boxoffice bench $(ARGS)

rush: setup ## Sell 10,000 seats to 2,000 buyers at once (needs a running stack)
	@$(BIN)/boxoffice rush $(or $(ARGS),--seats 10000 --buyers 2000)

lock: setup ## Pin the newest versions that pyproject.toml allows, with hashes (needs uv: pip install uv)
	$(COMPILE) --upgrade --extra dev pyproject.toml -o ops/locks/development.txt
	$(COMPILE) -c ops/locks/development.txt pyproject.toml -o ops/locks/runtime.txt

clean: ## Stop everything; remove caches and what the servers have stored (.local); .venv stays
	@if [ -x $(BIN)/boxoffice ]; then $(BIN)/boxoffice down; BOXOFFICE_STACK=test BOXOFFICE_PORT_BASE=9400 $(BIN)/boxoffice down; fi
	rm -rf .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
