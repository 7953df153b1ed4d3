# An Aurora for your own Kubernetes. `make` alone lists the targets; the work is in tools/tasks.py.
PYTHON ?= python3
TASK := $(PYTHON) -m tools.tasks
export LEVEL FAST FAULT N KUBE ENGINE_IMAGE OPERATOR_IMAGE SEEDS FIRST ONLY ROUNDS KINDS

.DEFAULT_GOAL := help
.PHONY: help demo psql test lint unit sim mutants component bench-commit bench-lag bench-failover e2e generate check-generate images chart checkers histories cluster-up cluster-down clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## From nothing to a running cluster, and kill its writer (KUBE=existing: current context)
	@$(TASK) demo

psql: ## An SQL prompt at the demo's writer
	@$(TASK) psql

test: ## All of the tests, from lint to e2e, with a table of times; takes the local cluster down last
	@$(TASK) test

lint: ## Style, types, layers, generated files, house rules
	@$(TASK) lint

unit: ## Unit and property tests (under 30 s)
	@$(TASK) unit

sim: ## Six copies and everything that can go wrong, simulated (SEEDS=2000 FIRST=0)
	@$(TASK) sim

mutants: ## Faults of the protocol on purpose, each of which a test must find (ONLY=word)
	@$(TASK) mutants

component: ## Parts against a real PostgreSQL and a real Kubernetes API
	@$(TASK) component

bench-commit: ## What a commit costs beside stock PostgreSQL, 15 minutes (FAST=1: under 3)
	@$(TASK) bench-commit

bench-lag: ## From acknowledged to visible on a replica (FAST=1: under a minute)
	@$(TASK) bench-lag

bench-failover: ## How long nobody writes when the writer is lost (FAULT=sigkill,cut-node N=5)
	@$(TASK) bench-failover

e2e: ## The whole on the local three-zone Kubernetes (LEVEL=full: the long tests too)
	@$(TASK) e2e

checkers: ## Build the checkers of histories: adya and porcupine
	@$(TASK) checkers

histories: ## Break the local cluster by seed and judge what clients saw (SEEDS=n FIRST=k ROUNDS=n KINDS=a,b)
	@$(TASK) histories

generate: ## Write the CRDs from the models
	@$(TASK) generate

check-generate: ## Fail when the CRDs differ from the models
	@$(TASK) check-generate

images: ## Build the engine image and the operator image
	@$(TASK) images

chart: ## Lint and pack the Helm chart
	@$(TASK) chart

cluster-up: ## Bring up a real three-zone Kubernetes on this machine
	@$(TASK) cluster-up

cluster-down: ## Take it down and leave nothing behind
	@$(TASK) cluster-down

clean: ## Remove what was built in the checkout
	@$(TASK) clean
