# Everything a user types. `make help` lists the targets.
SHELL := /bin/bash
VERSIONS := 3.13 3.12 3.11
# The newest supported Python on PATH that can make an environment, or uv's own. PYTHON= names another.
PYTHON ?= $(or $(firstword $(foreach v,$(VERSIONS),$(shell python$(v) -c 'import ensurepip, venv' 2>/dev/null && echo python$(v)))),$(shell \
  uv python find --quiet --managed-python '>=3.11,<3.14' 2>/dev/null || \
  { uv python install --quiet $(firstword $(VERSIONS)) && uv python find --managed-python $(firstword $(VERSIONS)); } 2>/dev/null))
PYTHON312 ?= 3.12
VENV := .venv
BIN := $(VENV)/bin
# The lines of the lock that pin uv and its hashes: what installs the rest is checked as well.
UV_LOCK := awk '/^uv==/ {found = 1} found {print} found && !/\\$$/ {exit}' requirements.txt
READY := $(VENV)/.installed

DATASET ?= synthetic
WEIGHTS ?= auto
LIMIT ?=
VERBOSE ?=
PORT ?=
FUZZ_SECONDS ?= 600

.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-14s %s\n", $$1, $$2}'

# An environment that is there keeps its Python: remove .venv to change it.
$(READY): requirements.txt
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 with venv on PATH, and no uv;" \
	  "install one (Debian and Ubuntu: python3.12 python3.12-venv), or uv, or pass PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(UV_LOCK) | $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r /dev/stdin
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.txt
	@touch $@

install: $(READY) ## create .venv from the locked requirements.txt

demo: $(READY) ## the whole loop offline: train, register, promote, classify (DATASET= WEIGHTS= LIMIT= VERBOSE=1)
	@$(BIN)/python -m local_aws demo --dataset "$(DATASET)" --weights "$(WEIGHTS)" $(if $(LIMIT),--limit $(LIMIT)) $(if $(VERBOSE),--verbose)

test: $(READY) ## run the tests in four processes beside each other
	@$(MAKE) --no-print-directory --jobs=4 test-dags test-training test-features test-others

# The DAGs' tests keep a local AWS and an Airflow that wait more than they compute; the training job's hold TensorFlow.
# Their output comes when they end.
test-dags: FOLDER := tests/dags
test-dags: $(READY) ## the tests of the DAGs alone
	@$(LOGGED)

FEATURES := tests/training_job/test_features.py
test-features: FOLDER := $(FEATURES)
test-features: $(READY) ## the tests of the cached features alone
	@$(LOGGED)

test-training: FOLDER := tests/training_job --ignore=$(FEATURES)
test-training: $(READY) ## the other tests of the training job alone
	@$(LOGGED)

LOGGED = mkdir -p build; $(BIN)/python -m pytest $(FOLDER) > build/$@.log 2>&1; status=$$?; cat build/$@.log; exit $$status

test-others: $(READY) ## the other tests alone
	@$(BIN)/python -m pytest --ignore=tests/dags --ignore=tests/training_job

test-browser: $(READY) ## the Airflow UI as a person uses it (needs chromium and chromium-driver)
	$(BIN)/python -m pytest -m browser tests/dags

test-images: $(READY) ## build each container's environment and run its entry point there (PYTHON312=, needs the network)
	CXR_PYTHON312=$(PYTHON312) $(BIN)/python -m pytest -m images tests/images

airflow: $(READY) ## the Airflow UI on a local AWS at http://127.0.0.1:8080
	@$(BIN)/python -m local_aws airflow $(if $(PORT),--port $(PORT))

up: $(READY) ## keep a local AWS running and print its endpoint
	@$(BIN)/python -m local_aws up --deploy $(if $(PORT),--port $(PORT))

bench: $(READY) ## run every benchmark into build/bench/
	$(BIN)/python -m benchmarks

lint: $(READY) ## ruff, cfn-lint and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/cfn-lint infra/*.yaml
	$(BIN)/mypy

fuzz: $(READY) ## mutate films and look for crashes (FUZZ_SECONDS=, default 600)
	$(BIN)/python -m tests.poison.fuzz --seconds $(FUZZ_SECONDS)

# The scanners have an environment of their own: they pin what the main lock has newer.
SCANNERS := build/audit
$(SCANNERS)/.installed: audit/requirements.txt $(READY)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SCANNERS)
	@$(BIN)/uv pip sync --quiet --python $(SCANNERS)/bin/python --require-hashes audit/requirements.txt
	@touch $@

audit: $(SCANNERS)/.installed ## vulnerable packages (needs the network), bandit, checkov and parliament; waivers in audit/
	$(BIN)/pip-audit --requirement requirements.txt --requirement benchmarks/requirements.txt --require-hashes --disable-pip
	$(SCANNERS)/bin/bandit --quiet --recursive --configfile audit/bandit.yaml audit benchmarks cxr dags inference_lambda infra local_aws training_job
	$(SCANNERS)/bin/checkov --config-file audit/checkov.yaml
	$(BIN)/python -m audit.policies $(SCANNERS)/policies
	@for policy in $(SCANNERS)/policies/*.json; do PYTHONWARNINGS=ignore $(SCANNERS)/bin/parliament < $$policy || exit 1; done

COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-header
lock: $(READY) ## compile the five locks from their inputs (needs the network)
	$(COMPILE) --universal --python-version 3.11 requirements.in -o requirements.txt
	$(COMPILE) --universal --python-version 3.11 --constraint requirements.txt benchmarks/requirements.in -o benchmarks/requirements.txt
	$(COMPILE) --universal --python-version 3.11 audit/requirements.in -o audit/requirements.txt
	for part in inference_lambda training_job; do \
	  $(COMPILE) --python-version 3.12 --python-platform x86_64-manylinux_2_28 \
	    --constraint requirements.txt $$part/requirements.in -o $$part/requirements.txt || exit 1; done

lock-check: $(READY) ## resolve the lock for each platform and Python that it promises (needs the network)
	$(BIN)/python -m pytest -m network tests/test_locks.py

clean: ## remove what runs have written (build/, .airflow/)
	rm -rf build .airflow

.PHONY: help install demo test test-dags test-training test-features test-others test-browser test-images airflow up bench lint fuzz audit lock lock-check clean
