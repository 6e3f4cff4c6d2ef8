# Two commands for newcomers: `make demo` and `make test`. Each installs what it lacks, saying so first, and works
# offline from then on. Everything else is for those who work on the code; `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
CARGO := cargo
.DEFAULT_GOAL := help

.PHONY: help setup setup-test demo test format lint doc unit deny

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: ## install what building needs (apt packages, fetched crates)
	@./setup.sh build

setup-test: ## as setup, and the test runner
	@./setup.sh build test

demo: setup ## build both programs and show them at work with the bundled model
	$(CARGO) build --locked --bin cerebrumd --bin cerebrum --bin cerebrum-server --bin cerebrum-demo
	@target/debug/cerebrum-demo

test: setup-test format lint doc unit ## all that CI checks

format: ## formatting of the code
	$(CARGO) fmt --all --check

lint: ## clippy, warnings are errors
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

doc: ## documentation builds without warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

unit: ## all tests, of units and of both real programs together
	$(CARGO) nextest run --locked --workspace

deny: ## licences, advisories and duplicate versions of dependencies (needs cargo-deny)
	$(CARGO) deny check

-include appliance/client.mk server/release.mk tests/bench.mk appliance/prompt/bench.mk server/engine/bench.mk cross/cross.mk image-build/image.mk \
	systemd/server.mk tests/board-vm/board-vm.mk tests/upstreams/upstreams.mk tests/aider/aider.mk
