# What a developer types. `make` alone lists the targets.

CARGO ?= cargo
# For `up`: what follows `utilizer up`, as in `make up ARGS="--interval 2s"`.
ARGS ?=
# For `fuzz`: which targets, all if none is named.
TARGETS ?=
# For `check-portable`: which systems.
PORTABLE ?= x86_64-unknown-freebsd x86_64-apple-darwin
# For `sim-long`: the first seed, and how many steps.
FIRST_SEED ?= 1000000
STEPS ?= 100000000
# For `kill-long`: how many kills.
KILLS ?= 100
# For `bench`: how long, and how many processes are started beside the machine's own for the second half.
SECONDS ?= 60
SLEEPERS ?= 500
# For `conformance`: a folder of Prometheus' evaluation scripts (promql/promqltest/testdata of its repository).
DIR ?=
# For `bench-rules`: rule files; without any, 500 rules are made up.
RULES ?=
# For `drill-logs` and `bench-logs`: lines a second, and lines.
RATE ?= 20000
LINES ?= 1000000
# For `drill` and `differential`: what decides everything random, and further switches as in ARGS="--every-ms 1000 --keep".
SEED ?= 1

# The ClickHouse engine for tests lives in a Python environment of its own.
export UTILIZER_TEST_PYTHON ?= $(CURDIR)/target/venv/bin/python
# Tests wait for servers more than they compute, so a small machine takes more threads than cores; the bound keeps a large
# one from starting dozens of database servers at once.
export RUST_TEST_THREADS ?= 4

.DEFAULT_GOAL := help
.PHONY: help up test check-rules conformance differential sim-long kill-long bench bench-tier bench-sinks bench-build bench-logs-store bench-relp bench-rules bench-notify bench-logs drill drill-logs order-code check-portable fuzz lint fmt docs deny golden boards deps

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# A development build: it is there well before a release build, and fast enough for one host (`make bench-build` compares).
up: ## Build and run everything for this host in one process; switches by ARGS="--interval 2s".
	$(CARGO) run --bin utilizer -- up $(ARGS)

# The binaries are built first, since a package's tests build no binaries of other packages. With the same features as the
# tests, so that nothing is compiled twice.
test: deps ## Install what tests need, build the binaries, run every test.
	$(CARGO) build --workspace --all-features --bins
	$(CARGO) test --workspace --all-features

check-rules: ## Check the shipped rules and run their unit tests with Prometheus' promtool; `make test` runs them here.
	promtool check rules $$(find config -name '*.yml' -not -path '*/tests/*' -exec grep -lx 'groups:' {} +)
	promtool test rules $$(find config -path '*/tests/*.yml')

# Seeds from 1,000,000 on; FIRST_SEED and STEPS say otherwise.
sim-long: ## Simulate the delivery protocol for 10^8 steps (STEPS=...), a few minutes.
	UTILIZER_FIRST_SEED=$(FIRST_SEED) UTILIZER_STEPS=$(STEPS) $(CARGO) test --package utilizer-delivery --test it \
		a_hundred_million_steps -- --ignored --nocapture

# KILLS=... for more or fewer; UTILIZER_FIRST_SEED=... plays a run again.
kill-long: ## Kill an agent that sends notifications KILLS times (100), and count what comes twice or not at all.
	UTILIZER_KILLS=$(KILLS) $(CARGO) test --package utilizer-agent --all-features --test it kills_lose_nothing -- --nocapture

# ARGS=--list names what was skipped too.
conformance: ## Run Prometheus' evaluation scripts in DIR=... over our PromQL; conformance.txt names what differs.
	@test -n "$(DIR)" || { echo "say where the scripts lie: make conformance DIR=prometheus/promql/promqltest/testdata" >&2; exit 2; }
	$(CARGO) run --package utilizer-rules --example conformance -- $(DIR) $(ARGS)

# ARGS="--count 100000" for more than 10,000, "--only N" for one of them again.
differential: ## Evaluate random expressions by SEED here and by a real Prometheus, and compare.
	$(CARGO) run --package utilizer-rules --example differential -- --seed $(SEED) $(ARGS)

bench: ## Measure the agent beside its peers, and one pass over this host; BENCHMARKS.md has the figures.
	$(CARGO) build --release --package utilizer-agent --bins --examples
	tools/bench-agent.py $(SECONDS) $(SLEEPERS)
	$(CARGO) run --release --package utilizer-agent --example pass
	$(CARGO) run --release --package utilizer-agent --example pass 2000 0 all

# Databases of your own instead of those that are started: `target/release/examples/bench-postgres URL`.
bench-sinks: deps ## Measure the PostgreSQL sink beside psql's \copy, and ClickHouse's beside the same blocks sent raw.
	$(CARGO) run --release --package utilizer-exporter-postgres --example bench-postgres
	$(CARGO) run --release --package utilizer-exporter-clickhouse --example bench-clickhouse

# RULES=... for files of your own.
bench-rules: ## Measure how soon an alert is out beside Prometheus, memory with 100 rules, loading and evaluating RULES.
	$(CARGO) build --release --package utilizer-agent --bins --examples
	$(CARGO) build --release --package utilizer-rules --examples
	$(CARGO) run --release --package utilizer-rules --example engine -- $(RULES)
	tools/bench-rules.py

bench-notify: ## Measure how soon somebody is told of an alert beside Alertmanager, and memory with many alerts.
	$(CARGO) build --release --package utilizer-agent --bins --examples
	tools/bench-notify.py

# LINES="100000" for other numbers of lines; 10 million take some minutes and 4 GB of memory.
bench-logs-store: deps ## Measure the table logs with a million and ten million lines: room, the users' queries, searches.
	$(CARGO) run --release --package utilizer-exporter-clickhouse --example bench-logs-store -- $(LINES)

bench-relp: ## Count what rsyslog's disk queue with RELP loses and doubles under ten faults; needs root, rsyslog, rsyslog-relp.
	tools/bench-relp.py

bench-logs: ## Measure lines of a file to the broker beside rsyslog's imfile and omfwd (LINES=1000000); needs rsyslog, mosquitto.
	$(CARGO) build --release --package utilizer-agent --bin utilizer-agent
	tools/bench-logs.py $(LINES)

# RATE=... for other than 20,000 lines a second.
drill-logs: deps ## Rotate files in every way and kill the agent for SECONDS by SEED; each line must arrive once.
	$(CARGO) build --workspace --all-features --bins
	target/debug/utilizer-drill-logs --seconds $(SECONDS) --rate $(RATE) --seed $(SEED)
	target/debug/utilizer-drill-logs --rate $(RATE) --window

drill: deps ## Kill, stop, cut, fill and slow everything at random for SECONDS by SEED; then look up each record.
	$(CARGO) build --workspace --all-features --bins
	target/debug/utilizer-drill --seconds $(SECONDS) --seed $(SEED) $(ARGS)

bench-tier: deps ## Measure the exporter tier beside a bare subscriber, psql's \copy and raw Native blocks.
	for way in null postgres clickhouse; do \
		$(CARGO) run --profile tier --package utilizer-tests --example tier $$way || exit 1; \
	done

bench-build: ## Measure how long `make up` builds on a machine that never built it, in each profile.
	@tools/cold-build.sh dev release

# What became often used without being named costs memory only: worth it after larger changes, and when `bench` shows it.
order-code: ## Find the functions that run all the time, for the linker (agent/often.ld); Linux on x86-64.
	CARGO_PROFILE_RELEASE_STRIP=none $(CARGO) build --release --package utilizer-agent
	tools/order-code.py

fuzz: ## Fuzz what reads bytes from outside, each target for FUZZ_SECONDS (60); finds lie in target/fuzz/finds.
	@tools/fuzz.sh $(TARGETS)

# Only checked: nothing is linked, so C code that a library brings needs no compiler for the other system.
check-portable: ## Check that the agent compiles for the other systems (PORTABLE=...); needs rustup.
	rustup target add $(PORTABLE)
	for target in $(PORTABLE); do \
		CC=$(CURDIR)/tools/no-cc.sh AR=$(CURDIR)/tools/no-cc.sh \
			$(CARGO) check --package utilizer-agent --target $$target || exit 1; \
	done

lint: ## Check formatting, and clippy without warnings.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings

fmt: ## Format all code.
	$(CARGO) fmt --all

docs: ## Build the documentation of all crates, without warnings.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --all-features --no-deps

deny: ## Check licences, bans and sources of all dependencies (deny.toml).
	@$(CARGO) deny --version >/dev/null 2>&1 || \
		{ echo "cargo-deny is missing; install it with: cargo install cargo-deny --locked" >&2; exit 1; }
	$(CARGO) deny --all-features check licenses bans sources

golden: ## Write the golden files anew after a change that is meant; read the difference before committing.
	UPDATE_GOLDEN=1 $(CARGO) test --all-features --package utilizer-wire --package utilizer-agent --package utilizer-jobs \
		--package utilizer-exporter-alertmanager --package utilizer-logs --package utilizer --test it

boards: ## Write Grafana's dashboards (config/grafana) from their definitions in tools/boards.
	python3 tools/boards

deps: ## Install what tests need: PostgreSQL, mosquitto, Prometheus, the ClickHouse engine.
	@tools/test-deps.sh
