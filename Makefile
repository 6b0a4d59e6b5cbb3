# Everything but `javascript` needs only python3 (3.11 or newer) and make: the first target makes its own virtual environment.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export UV_PYTHON_DOWNLOADS := never
# A shell that forbids compiled files makes each of the many processes of tests and demo compile the whole program anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
SECONDS ?= 60
# `make faults` runs these whole, and of everything else what is marked.
FAULTS := tests/durability tests/faults tests/security
.PHONY: help demo demoblind test faults check fuzz oracle timing simulate mutants javascript bench badline serve openapi lock clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements-bootstrap.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=/path/to/python3") if sys.version_info < (3, 11) else None'
	@echo "Setting up $(VENV) (once; about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock requirements-bootstrap.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## Four real nodes, five referrals, told step by step
	@$(BIN)/exchange demo

demoblind: $(STAMP) ## The same with no agency key on either server: sealed and opened by the agencies' own software
	@$(BIN)/exchange demo --blind

test: $(STAMP) ## Every test, on SQLite and on a PostgreSQL that it starts itself
	@$(BIN)/python -m pytest -n 3 --dist worksteal -q

faults: $(STAMP) ## kill -9 everywhere, peers away, lying or answering badly, databases gone, clocks wrong (long)
	@$(BIN)/python -m pytest -p no:xdist -v -m "" $(FAULTS) tests/processes/test_peer_answers_badly.py
	@$(BIN)/python -m pytest -p no:xdist -v -m faults tests $(addprefix --ignore=,$(FAULTS))

check: $(STAMP) ## Format, lint, types, import arrows, OpenAPI drift
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/exchange openapi --check

fuzz: $(STAMP) ## Wrong input to every reader and endpoint, for SECONDS=60; findings go to fuzz-findings/
	@PYTHONPATH=tests $(BIN)/python -m fuzzing $(SECONDS)

oracle: $(STAMP) ## Every question to the shipped contract, asked of Cedar as well (some minutes)
	@PYTHONPATH=tests $(BIN)/python -m oracle

timing: $(STAMP) ## Whether the time of a refusal tells what its words do not
	@PYTHONPATH=tests $(BIN)/python -m timing

simulate: $(STAMP) ## N=1000 random histories of two to four nodes, from SEED=0; SEED alone replays one with its trace
	@PYTHONPATH=tests $(BIN)/python -m simulation $(if $(N),--histories $(N)) $(if $(SEED),--seed $(SEED))

mutants: $(STAMP) ## Whether the simulation notices defects put in on purpose (long)
	@PYTHONPATH=tests $(BIN)/python -m simulation --mutants -n $(or $(N),1000)

javascript: $(STAMP) ## The implementation in JavaScript; needs node 20.19 and npm, without which `make test` skips it
	@CI=1 $(BIN)/python -m pytest -p no:xdist -q tests/javascript

bench: $(STAMP) ## What we claim about speed, beside the limit of this machine in the same run
	@$(BIN)/python -m benchmarks

badline: $(STAMP) ## Real nodes over 32 kbit/s, 2 s each way, a tenth lost (a few minutes)
	@$(BIN)/python -m benchmarks badline

serve: $(STAMP) ## Two linked nodes with synthetic data to try by hand
	@$(BIN)/exchange sandbox

openapi: $(STAMP) ## Write openapi/*.json from the code
	@$(BIN)/exchange openapi

lock: ## Renew the lock files (hashes and versions, no addresses)
	@test -x $(BIN)/uv || (echo "run make test once first" && exit 1)
	$(BIN)/uv pip compile pyproject.toml --group dev --generate-hashes --no-header --no-annotate --universal --python-version 3.11 -q -o requirements-dev.lock
	$(BIN)/uv pip compile pyproject.toml --generate-hashes --no-header --no-annotate --universal --python-version 3.11 -q -c requirements-dev.lock -o requirements.lock

clean: ## Remove everything the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build *.egg-info demo-data sandbox-data
