# Everything a contributor or an operator types. `make` alone lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# uv is used when it is there, else pip; both install only what the lock names, by hash.
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
install = $(UV) pip install --quiet --python $(BIN)/python
else
install = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

help: ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.runtime: requirements.lock pyproject.toml
	@printf '… environment      %s (first time: about half a minute)\n' '$(VENV)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(install) --require-hashes -r requirements.lock
	@$(install) --no-deps --no-build-isolation -e .
	@printf '✓ environment      %s, %s packages\n' '$(VENV)' "$$(ls -d $(VENV)/lib/python3*/site-packages/*.dist-info | wc -l)"
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@$(install) --require-hashes -r requirements-dev.lock
	@touch $@

up: $(VENV)/.runtime ## start the whole system on this machine; hand on arguments with ARGS="…"
	@exec $(BIN)/studio up $(ARGS)

test: $(VENV)/.dev ## every lane that needs no engine: pure, store, rpc, system
	$(BIN)/pytest -q -n 2 tests/pure tests/store tests/rpc
	$(BIN)/pytest -q -n 4 tests/system

check: $(VENV)/.dev ## style, types, import rules, generated code, migrations, file sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check
	cd proto && ../$(BIN)/buf lint
	cd proto && ../$(BIN)/buf breaking --against baseline.binpb
	$(BIN)/python -m studio_coordinator migrations-check
	@$(BIN)/python tests/file_sizes.py
	cd ansible && ../$(BIN)/ansible-lint -q

SEEDS ?= 2000
sim: $(VENV)/.dev ## the deterministic simulation with more seeds: SEEDS=…
	cd tests && PYTHONPATH=. ../$(BIN)/python -m sim --seeds $(SEEDS)

test-engine: $(VENV)/.dev ## real vLLM on this machine's CPU, through the gateway, with the openai client
	$(BIN)/pytest -q tests/engine

test-fleet: $(VENV)/.dev ## booted systemd hosts in network namespaces; needs root
	$(BIN)/pytest -q tests/fleet

CHAOS_SECONDS ?= 60
test-chaos: $(VENV)/.dev ## limits attacked, and everything killed at random under load: CHAOS_SECONDS=…
	CHAOS_SECONDS=$(CHAOS_SECONDS) $(BIN)/pytest -q -n 2 --dist loadfile tests/chaos

WHEELHOUSE ?= build
wheelhouse: $(VENV)/.dev ## everything that a fleet is installed from, in one archive: WHEELHOUSE=…
	@$(BIN)/python ansible/wheelhouse.py $(WHEELHOUSE)

# The gateway as wheels have it: its data path compiled, beside its sources.
COMPILED := build/compiled
$(COMPILED)/.done: $(VENV)/.dev gateway/compile.py $(shell find gateway/studio_gateway -name '*.py')
	@rm -rf $(COMPILED) && mkdir -p $(COMPILED) && cp -r gateway/studio_gateway $(COMPILED)/
	@printf '… gateway          compiling (about a minute)\n'
	@$(BIN)/python gateway/compile.py $(COMPILED)
	@touch $@

test-compiled: $(COMPILED)/.done ## the gateway's tests once more, on its data path as machine code
	PYTHONPATH=$(CURDIR)/$(COMPILED) $(BIN)/pytest -q -n 2 tests/pure/gateway tests/rpc/gateway

proto: $(VENV)/.dev ## generate the contract's Python code
	$(BIN)/python proto/generate.py

bench: bench-gateway bench-agent bench-estimate bench-scheduler bench-wake bench-fleet ## all benchmarks; each prints ratios

bench-gateway: $(COMPILED)/.done ## the gateway beside its peers (installed into a cache of their own)
	$(BIN)/python bench/gateway.py

bench-affinity: $(VENV)/.dev ## prefix affinity against other strategies; draws docs/affinity.svg
	$(BIN)/python bench/affinity.py

bench-agent: $(VENV)/.dev ## what the agent costs its host, and how soon it tells
	$(BIN)/python bench/agent.py

bench-estimate: $(VENV)/.dev ## the memory estimate against published measurements
	$(BIN)/python bench/estimate.py

bench-scheduler: $(VENV)/.dev ## placement: speed, and packing against the optimum
	$(BIN)/python bench/scheduler.py

bench-wake: $(VENV)/.dev ## what waking takes beside the engine's own time
	$(BIN)/python bench/wake.py

bench-fleet: $(VENV)/.dev ## what a fleet of 2,000 hosts costs its coordinator, and how soon things happen
	$(BIN)/python bench/fleet.py

lock: ## make the lock files anew from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --all-extras --group build pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --all-extras --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## remove the environment and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help up test sim check test-engine test-fleet test-chaos proto bench bench-gateway bench-affinity bench-agent bench-estimate bench-scheduler bench-wake bench-fleet lock clean
