# Everything a newcomer needs is here; each target sets up what it needs. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE :=
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install up demo test test-kafka crash fuzz check format bench histories clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

install: $(INSTALLED) ## Make .venv and install the locked requirements

up: $(INSTALLED) ## Run the whole platform here until Ctrl-C
	@$(BIN)/python -m cli.main up

demo: $(INSTALLED) ## Play real baskets through the whole platform, then check its books (BASKETS=file.csv for others)
	@$(BIN)/python -m cli.main demo $(if $(BASKETS),--baskets $(BASKETS))

test: $(INSTALLED) ## Run the whole test suite on embedded servers
	@$(BIN)/python -m pytest

test-kafka: $(INSTALLED) ## Run the event tests on Apache Kafka itself (needs Java and Maven)
	@$(BIN)/python -m pytest tests/events --kafka=apache

crash: $(INSTALLED) ## Let parts of the platform fail at random for long (KILLS=200 SEED=1)
	@$(BIN)/python -m pytest tests/crash -s --timeout=36000 --kills=$(or $(KILLS),200) $(if $(SEED),--seed=$(SEED))

fuzz: $(INSTALLED) ## Play made-up requests against the whole platform for long (SEED=1)
	@$(BIN)/python -m pytest tests/fuzz -s --timeout=7200 --fuzz-seconds=900 $(if $(SEED),--fuzz-seed=$(SEED))

bench: $(INSTALLED) ## Measure the platform on this machine; writes benchmarks/results.json
	@$(BIN)/python -m benchmarks.run

check: $(INSTALLED) ## Style, types, and the direction of imports
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports

format: $(INSTALLED) ## Format the code
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --fix --quiet .

histories: $(INSTALLED) ## Record a history of every branch of the saga for the replay tests
	@$(BIN)/python -m cli.main histories record

clean: ## Remove the environment and the data of the platform on this machine
	rm -rf .venv .commerce .commerce-demo
