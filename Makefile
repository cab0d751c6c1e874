# What a newcomer types. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help demo test mesh chaos edges fuzz bench lint setup clean

help: ## this list
	@printf 'Genkan: JSON-RPC over HTTP in front of Nameko, NATS and more.\n\n'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\n  cargo run --release -- serve      the gateway alone, on its embedded default\n'

demo: ## real brokers and services, modules on the hub, Genkan in front; Ctrl-C ends it all
	@scripts/demo

test: ## set up, then every test: unit tests and tests/it through real brokers and services
	@scripts/setup
	RUST_TEST_THREADS=$$(($$(nproc) + 1)) cargo test --locked --no-fail-fast

mesh: ## every way in times every kind of service: the table in docs/mesh.md, as it comes out now
	@scripts/setup
	MESH=write cargo test --locked --test it -- mesh::

chaos: ## brokers, services, lines and Genkan itself broken under load (ROUNDS=20 ONLY=NATS): the table in docs/chaos.md
	@scripts/setup
	ROUNDS="$(ROUNDS)" ONLY="$(ONLY)" cargo test --quiet --locked --test it -- --ignored --nocapture chaos::

edges: ## hostile clients, and what their neighbours notice: the table in docs/edges.md
	@scripts/setup
	cargo test --quiet --locked --test it -- --ignored --nocapture edges::

fuzz: ## libFuzzer over everything that reads a stranger's bytes (SECONDS=600 for each TARGETS="json token")
	@scripts/fuzz $(SECONDS)

bench: ## what a call costs, side by side with its floors and its peers
	cargo bench --locked --bench gateway -- $(ARGS)

lint: ## formatting, clippy, documentation, licences, unused dependencies
	@scripts/lint

setup: ## install what is missing for the demo and the tests (into .genkan/; brokers need root)
	@scripts/setup

clean: ## remove what was built and installed into the project
	cargo clean
	rm -rf .genkan
