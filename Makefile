# The verbs of the project; `make` lists them. They run Pulumi in the environment that `make env` prints.
# STACK chooses stacks/Pulumi.<STACK>.yaml. Recipes use relative paths only: the clone's path may hold spaces.

STACK ?= local
# Files of tests at a time. They wait more than they compute: some more than there are cores.
WORKERS ?= 3
PYTHON := .venv/bin/python
PULUMI := tools/setup/run pulumi
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

.PHONY: help kubernetes-early setup up preview refresh outputs kubeconfig down env test test-fast lint generate verify bpf cni bench bench-cni conformance soak clean-host

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## make this machine and clone ready (needs root; first run: minutes, then under a second)
	@tools/setup/setup.sh

up: setup ## bring the stack up, or repair it
	@tools/setup/stack.sh up "$(STACK)"
	@tools/setup/stack.sh summary "$(STACK)"

preview: setup ## show what `make up` would do
	@tools/setup/stack.sh preview "$(STACK)"

refresh: setup ## compare the stack's state with the machine
	@tools/setup/stack.sh refresh "$(STACK)"

outputs: ## print the stack's outputs as JSON, and nothing else
	@$(PULUMI) stack output --json --stack "$(STACK)"

kubeconfig: ## write the cluster's kubeconfig to a file that only you can read, and print its path
	@tools/setup/stack.sh kubeconfig "$(STACK)"

down: ## destroy the stack; its config file stays
	@tools/setup/stack.sh down "$(STACK)"

env: ## print exports for a shell: eval "$(make -s env)"; pulumi up --stack local
	@tools/setup/env.sh

kubernetes-early: # the longest build of a cold machine, beside the tests that do not need it
	@tools/setup/kubernetes.sh --background

test: setup kubernetes-early lint verify ## every check and test, as CI runs them (soak tests are apart)
	@tools/setup/run $(PYTHON) -m pytest -m "not soak" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-fast: setup ## the tests that need no kernel and no engine
	@$(PYTHON) -m pytest -q tests/unit tests/golden tests/component tests/transition

lint: setup ## format, lint, types, direction of imports
	@$(PYTHON) -m ruff format --check --quiet . || { $(PYTHON) -m ruff format --diff --quiet .; exit 1; }
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m mypy --no-error-summary
	@told=$$(.venv/bin/lint-imports --no-logo) || { echo "$$told"; exit 1; }

generate: setup ## write the generated files anew
	@tools/setup/run $(MAKE) -C bpf generate

verify: setup ## fail when a generated file is not what `make generate` writes
	@tools/setup/run $(MAKE) -C bpf verify

bpf: ## compile the BPF programs
	@$(MAKE) -C bpf

cni: ## compile the CNI plugin
	@$(MAKE) -C node_agent/cni

bench: setup ## measure; figures go to stdout
	@$(PYTHON) -m node_agent.bench $(ARGS)

bench-cni: ## measure what container runtimes wait for: make bench-cni ARGS="--agent FILE" (--help)
	@$(PYTHON) -m node_agent.bench.cni $(ARGS)

conformance: STACK := local-k8s
conformance: setup ## Kubernetes' own network specs against a cluster that is up (ARGS=--list: which, and why not the rest)
	@tools/setup/run $(PYTHON) -m tools.conformance.run --stack "$(STACK)" $(ARGS)

soak: setup ## the long tests (MIZAR_SOAK_ROUNDS=N for fewer rounds)
	@tools/setup/run $(PYTHON) -m pytest -s -m soak

clean-host: setup ## list what stacks left on this machine, or remove it: make clean-host [ID=stack-id]
	@$(PYTHON) -m node_agent.emulation.cleanup $(ID)
