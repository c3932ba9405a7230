# Everything a newcomer needs is here; each target sets up what it needs. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE :=
INSTALLED := .venv/.installed
COMMERCE := $(BIN)/commerce
TRIALS := tests/docs/test_saga_walk.py tests/upgrade tests/crash tests/fuzz

.DEFAULT_GOAL := help
.PHONY: help install command up demo test trials walk test-kafka crash upgrade-drill fuzz explore races check format bench histories clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(COMMERCE): $(INSTALLED)
	@$(MAKE) --no-print-directory command

# Not by pip: that would need a build backend, which not every Python brings along.
command:
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s/python" -m cli.main "$$@"\n' '$(CURDIR)' '$(abspath $(BIN))' > $(COMMERCE)
	@chmod +x $(COMMERCE)

install: $(COMMERCE) ## Make .venv with the locked requirements and the `commerce` command

up: $(COMMERCE) ## Run the whole platform here until Ctrl-C
	@$(COMMERCE) up

demo: $(COMMERCE) ## Play real baskets through the whole platform, then check its books (BASKETS=file.csv for others)
	@$(COMMERCE) demo $(if $(BASKETS),--baskets $(BASKETS))

test: $(INSTALLED) ## Run the test suite, without the trials, on embedded servers, in three processes (PROCESSES=2 for fewer)
	@$(BIN)/python -m pytest --numprocesses=$(or $(PROCESSES),3) --dist=loadscope --no-loadscope-reorder $(TRIALS:%=--ignore=%)

trials: $(INSTALLED) ## Play what `make test` leaves out, for a short time each: `walk`, `upgrade-drill`, `crash`, `fuzz`
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadscope --no-loadscope-reorder $(TRIALS)

walk: $(INSTALLED) ## Play docs/changing-the-saga.md: its edits and commands, on a platform of its own
	@$(BIN)/python -m pytest tests/docs/test_saga_walk.py

test-kafka: $(INSTALLED) ## Run the event tests on Apache Kafka itself (needs Java and Maven)
	@$(BIN)/python -m pytest tests/events --kafka=apache

crash: $(INSTALLED) ## Let parts of the platform fail at random for long (KILLS=200 SEED=1)
	@$(BIN)/python -m pytest tests/crash -s --kills=$(or $(KILLS),200) $(if $(SEED),--seed=$(SEED))

upgrade-drill: $(INSTALLED) ## Bring a bad and a good build of the saga beside the last release while customers order (SEED=1)
	@$(BIN)/python -m pytest tests/upgrade -s --drill=full $(if $(SEED),--seed=$(SEED))

fuzz: $(INSTALLED) ## Play made-up requests against the whole platform for long (SEED=1)
	@$(BIN)/python -m pytest tests/fuzz -s --fuzz-seconds=900 $(if $(SEED),--fuzz-seed=$(SEED))

explore: $(INSTALLED) ## Play the saga against an adversary for long (SEEDS=2000, or SEED=1, or STORY=file)
	@$(BIN)/python -m testing.explorer $(if $(STORY),--story $(STORY),$(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),2000)))

races: $(INSTALLED) ## Race every pair of commands of every service for long (SEEDS=50)
	@$(BIN)/python -m pytest tests/races --timeout=7200 --race-seeds=$(or $(SEEDS),50)

bench: $(INSTALLED) ## Measure the platform on this machine; writes docs/performance.md (ONLY=growth for one part)
	@$(BIN)/python -m benchmarks.run $(if $(ONLY),--only $(ONLY))

check: $(INSTALLED) ## Style, types, and the direction of imports
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports

format: $(INSTALLED) ## Format the code
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --fix --quiet .

histories: $(COMMERCE) ## Record a history of every branch of the saga for the replay tests
	@$(COMMERCE) histories record

clean: ## Remove the environment and the data of the platform on this machine
	rm -rf .venv .commerce .commerce-demo
