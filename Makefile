# make run and make test set up all they need; make help lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help run test check ui install bench soak chaos clean
help:
	@echo "make run      set up, and run two demo cameras; Ctrl-C stops everything"
	@echo "make test     set up, and run the tests"
	@echo "make check    lint, types, import rules, and whether the web UI that is shipped is current"
	@echo "make ui       build the web UI from api/ui into api/static/ui"
	@echo "make bench    run the benchmarks beside their peers, and write docs/benchmarks.md"
	@echo "make soak     forty minutes of two cameras' time, ten times as fast: does anything grow?"
	@echo "make chaos    kill processes at random for some minutes, and look for what was lost"
	@echo "make install  only set up"
	@echo "make clean    remove what was set up, and caches; data in var/ stays"

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Haetae needs Python 3.11 or later; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(VENV) (this takes a minute or two, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock requirements-vlm.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@touch $@

run: install
	@exec $(BIN)/haetae up --demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/unit/test_imports.py
	$(BIN)/python api/ui/build.py --check

ui: $(VENV)/.installed-dev
	$(BIN)/python api/ui/build.py

$(VENV)/.installed-bench: $(VENV)/.installed requirements-bench.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.lock
	@touch $@

bench: $(VENV)/.installed-bench
	$(BIN)/python -m bench.report
	$(BIN)/python -m bench.events
	$(BIN)/python -m bench.api
	$(BIN)/python -m bench.notify
	$(BIN)/python -m bench.stream

soak: install
	$(BIN)/python -m bench.soak

chaos: $(VENV)/.installed-dev
	$(BIN)/python -m bench.chaos
	$(BIN)/python -m bench.kills
	$(BIN)/python -m bench.notify_kills

clean:
	rm -rf $(VENV) api/ui/node_modules build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
