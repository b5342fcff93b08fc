# Everything that is done here, by name. `make run` and `make test` need only python3 (3.11 or newer) and make:
# the rest they install, into .venv, and again only when pyproject.toml or the lock changed.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

bin     := $(VENV)/bin
install := $(bin)/python -m pip --disable-pip-version-check install -qq --constraint requirements.lock

.PHONY: help run test check bench crash services lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.run ## start a server on http://127.0.0.1:8080; ARGS="--port 9000 --data /srv/carboy"
	@exec $(bin)/carboy serve $(ARGS)

test: services $(VENV)/.test ## run the tests; ARGS="tests/test_cli.py -x"
	@$(bin)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

check: $(VENV)/.check ## lint, types and import directions
	@$(bin)/ruff check .
	@$(bin)/mypy
	@$(bin)/lint-imports --no-logo

bench: services $(VENV)/.test ## measure Carboy beside its peers and write docs/benchmarks.md; ARGS="--help"
	@$(bin)/python -m benchmarks $(ARGS)

crash: services $(VENV)/.test ## cut the power and kill the server under load; ARGS="--rounds 200"
	@$(bin)/python tests/faults/crash.py $(ARGS)

services: ## install the servers and tools that tests use (as root; else says what to type)
	@PYTHON='$(PYTHON)' tools/services

lock: ## write requirements.lock anew from the newest versions that pyproject.toml allows
	@$(PYTHON) tools/lock.py

clean: ## remove everything that make made; never the data folder
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache benchmarks/.envs .services
	find src tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made: tools/make_venv.py
	@echo "making $(VENV)"
	@$(PYTHON) tools/make_venv.py $(VENV)
	@$(install) --upgrade pip
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml requirements.lock
	@echo "installing carboy into $(VENV)"
	@$(install) --editable .[images,metrics]
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo "installing what the tests need"
	@$(install) --group test
	@touch $@

$(VENV)/.check: $(VENV)/.run
	@echo "installing what the checks need"
	@$(install) --group check
	@touch $@
