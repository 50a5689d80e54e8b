# Everything a person or CI does here. On a fresh machine, python3 and make are enough.

# The first Python on the path that is new enough.
PYTHON ?= $(or $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; \
	done),$(error Python 3.11 or newer is needed, which mlx-lm asks for))
VENV   ?= .venv
BIN    := $(VENV)/bin
# macOS has Metal; elsewhere the CPU build, unless EXTRA says cuda.
EXTRA  ?= $(if $(filter Darwin,$(shell uname -s)),metal,cpu)

.PHONY: help demo test check format lint types imports slow wheel bench clients fuzz soak patches benchmarks screenshots eval-demo docs reference release-check clean
.DEFAULT_GOAL := help

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

$(BIN)/.run: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[$(EXTRA)]'
	@touch $@

$(BIN)/.test: $(BIN)/.run
	$(BIN)/python -m pip install --quiet -e '.[$(EXTRA),test]'
	@touch $@

$(BIN)/.docs: $(BIN)/.run
	$(BIN)/python -m pip install --quiet -e '.[$(EXTRA),docs]'
	@touch $@

demo: $(BIN)/.run  ## start a server with the built-in model and let it call tools
	@$(BIN)/python -m mlx_tools_server demo $(if $(ONCE),--once)

test: $(BIN)/.test  ## run the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not slow and not real_model'

slow: $(BIN)/.test  ## run all tests, those with a real model included
	$(BIN)/python -m pytest -q

check: format lint types imports test  ## all that must be true before a commit

format: $(BIN)/.test
	$(BIN)/ruff format --check .

lint: $(BIN)/.test
	$(BIN)/ruff check .

types: $(BIN)/.test
	$(BIN)/mypy

imports: $(BIN)/.test
	$(BIN)/lint-imports

wheel: $(BIN)/.test  ## build the wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

bench: $(BIN)/.run  ## measure parsing, grammars, the KV cache, and the built-in model
	$(BIN)/python -m mlx_tools_server bench parser
	$(BIN)/python -m mlx_tools_server bench kv
	$(BIN)/python -m mlx_tools_server bench grammar
	$(BIN)/python -m mlx_tools_server bench restart
	$(BIN)/python -m mlx_tools_server bench tokens
	$(BIN)/python -m mlx_tools_server bench turns

clients: $(BIN)/.test  ## let the real clients play a task (npm; ONLY=NAME for one of them)
	$(BIN)/python -m tests.clients $(if $(ONLY),--only "$(ONLY)")

fuzz: $(BIN)/.test  ## attack a server with 10,000 requests, and its parsers (atheris) if that is there
	$(BIN)/python -m tests.attack.fuzz --count $(or $(COUNT),10000)
	$(BIN)/python -m tests.attack.atheris_parsers --seconds 300
	$(BIN)/python -m tests.attack.atheris_requests --seconds 300

soak: $(BIN)/.test  ## let agents of all kinds play against a server for 20 minutes (MINUTES=N)
	$(BIN)/python -m tests.attack.soak --minutes $(or $(MINUTES),20)

patches: $(BIN)/.test  ## prove the patches for mlx-lm: fails before, applies, passes after
	$(BIN)/python -m tools.patches

benchmarks: $(BIN)/.test  ## measure this server beside its peers and write docs/benchmarks.md (QUICK=1)
	$(BIN)/python -m tools.benchmarks $(if $(QUICK),--quick)

release-check: $(BIN)/.test  ## prove that a release can go out: files, metadata, tests on the wheel (QUICK=1)
	$(BIN)/python -m pip install --quiet -e '.[release]'
	$(BIN)/python -m tools.release_check $(if $(QUICK),--quick)

docs: $(BIN)/.docs  ## build the documents as a site, into site/
	$(BIN)/python -m mkdocs build --strict

reference: $(BIN)/.test  ## write docs/reference from the code
	$(BIN)/python -m tools.reference

screenshots: $(BIN)/.test  ## take the pictures of docs/images (needs Chromium)
	$(BIN)/python -m tools.screenshots

eval-demo: $(BIN)/.test  ## measure how well the built-in model calls tools
	$(BIN)/python -m tools.eval_demo_model

clean:  ## remove what was built
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
