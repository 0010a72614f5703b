# One environment, made once: `make demo` after `make test` installs nothing.
# TORCH=torch==2.13.0 (or any other pin) chooses the torch build; UV_FIND_LINKS names a folder of wheels.

TORCH ?= torch
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.PHONY: help demo test test-slow soak fuzz check lint types layers golden docs clean

help:  ## Say what there is.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode "$(TORCH)"
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -e '.[dev]'
	@touch $(READY)

demo: $(READY)  ## Build recipes/quickstart.yaml, train on it, and say where everything is.
	@$(RUN) $(BIN)/prefkit train recipes/quickstart.yaml
	@echo "  (prefkit is $(BIN)/prefkit; . $(BIN)/activate puts it on your path)"

test: $(READY)  ## Run the tests.
	$(RUN) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu and not net and not ray" -q
	$(RUN) $(BIN)/python -m pytest -m "ray and not slow" -q

test-slow: $(READY)  ## Run the slow tests.
	$(RUN) $(BIN)/python -m pytest -m slow -q

soak: $(READY)  ## Kill builds at 200 random points; PREFKIT_KILL_POINTS and PREFKIT_KILL_SEED choose others.
	PREFKIT_KILL_POINTS=$${PREFKIT_KILL_POINTS:-200} PREFKIT_KILL_SEED=$${PREFKIT_KILL_SEED:-7} $(RUN) \
	  $(BIN)/python -m pytest -q -s -p no:randomly tests/faults/test_kill_points.py

fuzz: $(READY)  ## Fuzz one TARGET of tests/fuzz, or each in turn, for SECONDS (needs the extra fuzz).
	$(RUN) nice $(BIN)/python tests/fuzz/run_fuzz.py $(TARGET) --seconds $(or $(SECONDS),60)

check: $(READY) lint types layers test  ## The gate: format, lint, types, import layers, tests.

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports --no-cache

golden: $(READY)  ## Rewrite the golden files; review reads the diff.
	$(RUN) PREFKIT_GOLDEN=write $(BIN)/python -m pytest -q -p no:randomly -m "not slow" -k golden

docs: $(READY)  ## Regenerate the tables of the README and the recipe schema.
	$(RUN) PREFKIT_GOLDEN=write $(BIN)/python -m pytest -q -p no:randomly tests/test_docs.py

clean:  ## Remove the environment and caches; stores and data stay.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
