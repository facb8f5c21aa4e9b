# gatepost: `make` alone lists what there is.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test faults powercut installation check format bench wheel deb clean

help: ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|'

run: $(BIN)/.runs ## start the demo: real and simulated sensors, two rules, a broker of its own
	@$(BIN)/gatepost run --simulate --events config/demo.yaml

test: $(BIN)/.tests ## run the tests
	$(BIN)/pytest $(ARGS)

faults: $(BIN)/.tests ## break things for half an hour; GATEPOST_FAULTS_SEED=N repeats the chances of a run
	GATEPOST_FAULTS=long $(BIN)/pytest tests/faults tests/agent/test_log_model.py $(ARGS)

check: $(BIN)/.tests ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

format: $(BIN)/.tests ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BIN)/.tests ## measure this machine against paho-mqtt alone; ARGS='soak' for ten minutes
	$(BIN)/python -m benchmarks $(ARGS)

powercut: $(BIN)/.tests ## cut a virtual machine's power while the agent writes, and count what is missing (as root); ARGS='--quick'
	PYTHON=$(abspath $(BIN)/python) tests/lab/image.sh
	PYTHONPATH=tests:. $(BIN)/python -m lab.powercut $(ARGS)

installation: $(BIN)/.tests ## install the Debian package on a virtual machine, and try what a service must bear (as root)
	PYTHON=$(abspath $(BIN)/python) tests/lab/image.sh
	PYTHON=$(abspath $(BIN)/python) ARCH=amd64 packaging/debian/build.sh
	PYTHONPATH=tests:. $(BIN)/python -m lab.installation $(ARGS)

wheel: $(BIN)/.tests ## build dist/*.whl
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

deb: $(BIN)/.runs ## build dist/*.deb for Debian 12 and this architecture; ARCH=arm64 for another
	PYTHON=$(abspath $(BIN)/python) ARCH=$(ARCH) packaging/debian/build.sh

clean: ## remove what was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Debian keeps ensurepip in a package of its own.
$(BIN)/python:
	@$(PYTHON) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11) and "gatepost needs Python 3.11 or newer")' 2>/dev/null \
	  || { $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "gatepost needs Python 3.11 or newer, $(PYTHON) is older"; exit 1; }; \
	       echo "Python's venv module is missing; installing python3-venv"; \
	       $$(test $$(id -u) = 0 || echo sudo) apt-get install -y python3-venv; }
	$(PYTHON) -m venv $(VENV)

$(BIN)/.runs: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[broker]'
	@touch $@

$(BIN)/.tests: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(BIN)/.runs
