# vqasr: everything that is typed here sets up first what is missing.
#   VENV=DIR       use (or make) the environment DIR in place of .venv
#   PYTHON=python  what makes the environment: Python 3.11 or 3.12
#   ARGS="..."     more arguments, for vqasr run (demo) or for pytest (test, test-all)
VENV ?= .venv
PYTHON ?= python3
ARGS ?=
BIN := $(VENV)/bin
# More threads than cores make the small models of the tests slower, not faster.
TEST_ENV := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all bench faults lint

help: ## list the targets
	@echo "make TARGET [VENV=DIR] [PYTHON=python3.12] [ARGS=...]"
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 12

setup: ## make or mend the environment, and check it; nothing to do, no work
	@"$(PYTHON)" pipeline/bootstrap.py --venv "$(VENV)"

demo: setup ## set up, then run the demo to its table of word error rate by label budget
	"$(BIN)/vqasr" run recipes/demo.yaml $(ARGS)

test: setup ## set up, then run the tests (at most 12 minutes on 2 cores)
	$(TEST_ENV) "$(BIN)/python" -m pytest -m "not slow" $(ARGS)

test-all: setup ## set up, then run the tests and the long ones
	$(TEST_ENV) "$(BIN)/python" -m pytest $(ARGS)

bench: setup ## set up, then measure ours against others in the same run; ARGS names some
	$(TEST_ENV) "$(BIN)/python" -m tests.benchmarks $(ARGS)

faults: setup ## set up, then kill every stage over and over, and run the tests of all cases of faults
	$(TEST_ENV) "$(BIN)/python" -m tests.faults $(ARGS)

lint: setup ## style and types
	"$(BIN)/python" -m ruff check .
	"$(BIN)/python" -m ruff format --check .
	"$(BIN)/python" -m mypy
