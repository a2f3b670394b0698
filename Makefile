# What can be done with this repository? `make help` lists it.
#
# ARGS passes words on: make test ARGS="-k reserve -x", make rush ARGS="--seats 500 --buyers 100".

.DEFAULT_GOAL := help
.PHONY: help setup run up down status test faults check format contracts bench rush supply-chain audit lock clean

BIN := .venv/bin
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv from the lock file (every other target does it when needed)
	@ops/setup.sh

run: setup ## Start everything, ready to sell; Ctrl-C stops all of it (ARGS="--scale ingress=3")
	@exec $(BIN)/boxoffice run $(ARGS)

up: setup ## Start everything in the background (ARGS likewise)
	@$(BIN)/boxoffice up $(ARGS)

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

contracts: setup ## Write what follows from the code anew: contracts, settings, metrics, dashboards
	@$(BIN)/python -m ops.contract_files

bench: setup ## The figures of the README, measured on this machine
	@$(BIN)/boxoffice bench $(ARGS)

rush: setup ## Sell 10,000 seats to 2,000 buyers at once (needs a running stack)
	@$(BIN)/boxoffice rush $(or $(ARGS),--seats 10000 --buyers 2000)

supply-chain: setup ## What we are made of (build/sbom.json), licences, weaknesses, secrets; needs no network
	@$(BIN)/python -m ops.supply_chain

audit: setup ## The same, and which locked packages have known holes (asks a public service; STRICT=1 fails without it)
	@$(BIN)/python -m ops.supply_chain --audit

lock: setup ## Pin the newest versions that pyproject.toml allows, with hashes (needs uv: pip install uv)
	$(COMPILE) --upgrade --extra dev pyproject.toml -o ops/locks/development.txt
	$(COMPILE) -c ops/locks/development.txt pyproject.toml -o ops/locks/runtime.txt

clean: ## Stop everything; remove caches and what the servers have stored (.local); .venv stays
	@if [ -x $(BIN)/boxoffice ]; then $(BIN)/boxoffice down; BOXOFFICE_STACK=test BOXOFFICE_PORT_BASE=9400 $(BIN)/boxoffice down; fi
	rm -rf .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
