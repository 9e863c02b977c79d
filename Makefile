SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)
LOG := $(VENV)/cargo-test.log

# What the compiled module depends on; the Python package itself is installed in place.
SOURCES := Cargo.toml Cargo.lock pyproject.toml \
	$(shell find crates -name '*.rs' -not -path '*/tests/*' -o -name Cargo.toml)

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):.* ## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

.PHONY: demo
demo: $(VENV)/.built ## the tutorial programs on multiprocessing and on manycore, side by side
	$(BIN)/python examples/demo.py $(if $(START_METHOD),--start-method $(START_METHOD))

.PHONY: test
test: $(VENV)/.built ## all tests: the engine, its models, the Python package, examples, README
	cargo test -p manycore 2>&1 | tee $(LOG)
	$(MAKE) --no-print-directory model
	$(find_pythons) $(THIS) | $(run_cpython) --suites fork,main
	$(BIN)/python -m pytest
	@echo "cargo test -p manycore:"
	@grep '^test result' $(LOG)

PACKAGES := $(VENV)/packages

# The Pythons to test on: commands, one a line.
find_pythons = $(BIN)/python -m tests.cpython.pythons
THIS = $(shell $(BIN)/python -c 'import sys; print("{}.{}".format(*sys.version_info))')
run_cpython = $(BIN)/python -m tests.cpython $(if $(SUITES),--suites $(SUITES)) $(if $(SYSTEM),--system $(SYSTEM))

.PHONY: test-cpython
test-cpython: $(VENV)/.built ## the interpreter's own tests of multiprocessing; VERSIONS="3.11 3.13" SUITES=fork,spawn SYSTEM=stdlib
	$(find_pythons) $(or $(VERSIONS),3.11 3.13) | $(run_cpython)

.PHONY: test-all-pythons
test-all-pythons: $(VENV)/.built ## our tests and the interpreter's own on every Python from 3.11 on that is there
	$(find_pythons) $(VERSIONS) | $(BIN)/python -m tests.cpython.ours $(ARGS)
	$(find_pythons) $(VERSIONS) | $(run_cpython)

.PHONY: test-packages
test-packages: $(VENV)/.built $(PACKAGES)/.ready ## well-known packages, with the interpreter alone and on manycore; CASES="black scipy"
	$(PACKAGES)/bin/python -m tests.packages $(CASES)

.PHONY: debian-root
debian-root: ## Python 3.14 and 3.15 with their tests, from Debian; needs debootstrap and root
	mkdir -p $(VENV)/roots
	debootstrap --variant=minbase --include=python3.14,python3.14-venv,libpython3.14-testsuite,$(strip \
		)python3.15,python3.15-venv,libpython3.15-testsuite sid $(VENV)/roots/sid

.PHONY: model
model: ## the lock-free parts under loom; PREEMPTIONS=3 looks further and takes longer
	RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=$(or $(PREEMPTIONS),2) \
		cargo test -p manycore --release --target-dir $(TARGET)/loom --lib model:: \
		| awk '{ print; fflush() } /^test .* ok$$/ { ok = 1 } END { exit !ok }' # no model is no success

# One line each: a scenario and its sizes.
define STRESS
workloads --method fork --seconds 60
workloads --method forkserver --seconds 60
workloads --method spawn --seconds 60
chaos --method fork --kills 2000
chaos --method forkserver --kills 1000
chaos --method spawn --kills 200
deaths --method fork
deaths --method forkserver
deaths --method spawn --rounds 50
leaks --method fork --pools 2000
leaks --method forkserver --pools 1000
endef
export STRESS

.PHONY: stress
stress: $(VENV)/.built ## long runs that look for rare faults, eight minutes; SCENARIO="chaos --method fork --kills 10000"
	printf '%s\n' "$${SCENARIO:-$$STRESS}" | while read -r words; do \
		$(BIN)/python -m tests.stress $$words; done

.PHONY: lint
lint: $(VENV)/.built ## formatting, clippy, ruff, mypy, stubtest, and the rules between the layers
	cargo fmt --all --check
	PYO3_PYTHON=$(abspath $(BIN)/python) cargo clippy --workspace --all-targets -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/typing/program.py
	MYPYPATH=python $(BIN)/stubtest manycore --mypy-config-file pyproject.toml --allowlist tests/typing/stubtest.txt
	@if cargo tree -p manycore | grep pyo3; then echo "the engine must not know Python" >&2; exit 1; fi
	@if grep -rnE '\b(libc::[a-z_{]|rustix::)' crates/*/src --include='*.rs' \
		| grep -v '^crates/manycore/src/sys/'; then \
		echo "system calls belong into crates/manycore/src/sys" >&2; exit 1; fi

.PHONY: fmt
fmt: $(VENV)/.requirements ## format the Rust and the Python code
	cargo fmt --all
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench_python = $$($(BIN)/python -m bench.environment $(if $(BENCH_PYTHON),'$(BENCH_PYTHON)'))

.PHONY: bench
bench: $(VENV)/.built ## measure against the standard library and rivals; BENCH=apply,imap SYSTEMS=manycore,loky START_METHOD=fork BENCH_PYTHON=python3.12
	python=$(bench_python) && $$python -m bench $(if $(BENCH),--cases $(BENCH)) $(strip \
		)$(if $(SYSTEMS),--systems $(SYSTEMS)) $(if $(START_METHOD),--start-methods $(START_METHOD)) $(ARGS)

.PHONY: bench-growth
bench-growth: $(VENV)/.built ## measure how costs grow with tasks, workers, payload; SERIES=imap,payload
	python=$(bench_python) && $$python -m bench.growth $(if $(SERIES),--series $(SERIES)) $(ARGS)

.PHONY: bench-docs
bench-docs: $(VENV)/.built ## write what was measured into docs/performance.md; RESULTS=FILE.json GROWTH=FILE.json
	python=$(bench_python); \
	$(if $(RESULTS),$$python -m bench.tables $(RESULTS);) $(if $(GROWTH),$$python -m bench.growth.page $(GROWTH))

.PHONY: clean
clean: ## remove the local environment and what was built
	rm -rf $(VENV) target

$(VENV)/.requirements: requirements-dev.txt requirements-test.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# Finds manycore here, as it is, and has every process noted; see tests/packages/hook.
$(PACKAGES)/.ready: tests/packages/requirements.txt
	$(PYTHON) -m venv $(PACKAGES)
	$(PACKAGES)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	printf '%s\n' '$(abspath python)' '$(abspath tests/packages/hook)' 'import started_processes' \
		> "$$($(PACKAGES)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/manycore.pth"
	touch $@

$(VENV)/.built: $(VENV)/.requirements $(SOURCES)
	env -u CONDA_PREFIX VIRTUAL_ENV=$(abspath $(VENV)) PATH=$(abspath $(BIN)):$$PATH maturin develop --release
	touch $@
