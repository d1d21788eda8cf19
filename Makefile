# GNU make 3.81 (macOS) and later. `make` alone shows what there is; the work is done by cargo and scripts/.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo build web test browser torture soak check bench fuzz fmt audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Install what is missing, build, start a gateway, send real data, stay up (ONCE=1: stop after it; JOBS=1: have polling jobs ask)
	@scripts/demo.sh

build: ## Build target/release/tidegate and target/release/tidegate-demo, with the dashboard where Node.js is
	@scripts/web.sh try
	cargo build --release --locked --bin tidegate --bin tidegate-demo

web: ## Build the dashboard for the next build to embed (installs Node.js and npm where they are missing)
	@scripts/web.sh

test: ## Install what is missing, run every test (TESTS="name ..." runs some)
	@scripts/test.sh $(TESTS)

browser: ## Run the tests in a browser alone (TESTS="name" runs some)
	@scripts/browser.sh $(TESTS)

torture: ## Kill and break everything for SECONDS=300 and print the figures (TIDEGATE_TEST_SEED=… repeats a run)
	@TIDEGATE_TORTURE_SECONDS=$(or $(SECONDS),300) scripts/torture.sh

soak: ## Attack it in every way for SECONDS=900 beside honest people, and print what these notice
	@TIDEGATE_SOAK_SECONDS=$(or $(SECONDS),900) scripts/torture.sh soak

check: ## Formatting, clippy, then every test
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	@scripts/test.sh

bench: ## Measure it beside the limits of this machine (QUICK=1: under three minutes; GROUPS="bulk single" only these)
	@QUICK=$(QUICK) scripts/bench.sh $(GROUPS)

fuzz: ## Feed the parsers what libFuzzer makes up (SECONDS=60 for each target, TARGETS="json csv ...")
	@scripts/fuzz.sh $(or $(SECONDS),60) $(TARGETS)

fmt: ## Format the sources
	cargo fmt --all

audit: ## Hold the dependencies against deny.toml: advisories, licences, sources (OFFLINE=1: without the advisories)
	@OFFLINE=$(OFFLINE) scripts/audit.sh

clean: ## Remove the build; data directories stay
	cargo clean
