PYTHON ?= python3
BIN := .venv/bin
REQUIREMENTS := pyproject.toml requirements.lock

.PHONY: install serve test check fuzz bench-serve clean

install: .venv/installed

serve: .venv/installed
	@$(BIN)/bessemer serve $(ARGS)

test: .venv/tested
	$(BIN)/python -m pytest $(ARGS)

check: .venv/checked
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python -m pytest tests/test_layout.py

fuzz: .venv/tested
	$(BIN)/python -m pytest -m "" --hypothesis-profile=long $(ARGS) tests/translate/test_fuzz.py

clean:
	rm -rf .venv build *.egg-info

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Bessemer needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: $(REQUIREMENTS) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .
	@touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --group test
	@touch $@

.venv/checked: .venv/tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --group check
	@mkdir -p .venv/link && ln -sfn ../.. .venv/link/bessemer
	@touch $@
