# Two commands do all their own set-up: make quickstart, make test.
PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .venv-bench
RUNS ?= runs
BIN := $(VENV)/bin
# Packages are installed once, and again when pyproject.toml changes.
.PHONY: help quickstart test test-slow bench lint clean
.DELETE_ON_ERROR:

help:
	@echo "make quickstart  train an ST-CNN and a CNN on rotated digits"
	@echo "make test        run the tests"
	@echo "make test-slow   run the tests that take minutes"
	@echo "make bench       time sampler and training against other libraries"
	@echo "make lint        check style and types"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[demo,viz]"
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/.installed-demo

$(VENV)/.installed-bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	@touch $@

# The sampler in C++, built against the jaxlib of this environment. Everything
# runs without it, so that nothing which goes wrong here is an error.
NATIVE := native/CMakeLists.txt native/pyproject.toml \
  $(wildcard native/src/* native/stn_native/*.py)
$(VENV)/.installed-native: $(NATIVE) | $(BIN)/python
	@if ! command -v $(firstword $(CXX)) >/dev/null; then \
	  echo "No C++ compiler: the sampler runs in plain JAX."; \
	elif $(BIN)/python -m pip install --quiet "jax>=0.10" \
	    "scikit-build-core>=0.10" cmake ninja >$@.log 2>&1 && \
	  $(BIN)/python -m pip install --no-build-isolation ./native \
	    >>$@.log 2>&1; then \
	  echo "The sampler in C++ is built."; \
	else \
	  echo "The sampler in C++ was not built ($@.log): plain JAX runs."; \
	fi
	@touch $@

quickstart: $(VENV)/.installed-demo $(VENV)/.installed-native
	@for model in st_cnn cnn; do \
	  $(BIN)/python train.py --config=configs/quickstart.py:model=$$model \
	    --workdir=$(RUNS)/quickstart/$$model || exit 1; \
	done
	@echo
	@$(BIN)/python -m stn.results $(RUNS)/quickstart/st_cnn $(RUNS)/quickstart/cnn
	@echo
	@echo "The ST at work:    $(RUNS)/quickstart/st_cnn/pictures.gif"
	@echo "Curves:            $(RUNS)/quickstart/*/metrics.jsonl (and tensorboard/)"
	@echo "Try next:          $(BIN)/python eval.py --workdir=$(RUNS)/quickstart/st_cnn --pictures"
	@echo "                   $(BIN)/python train.py --config=configs/quickstart.py \\"
	@echo "                     --config.data.distortion=rts --workdir=$(RUNS)/rts"
	@echo "Full MNIST:        see 'Experiments' in README.md"

# Many virtual CPU devices on few cores deadlock in XLA with fewer threads; with
# one device more threads than cores only slow it down.
test test-slow: export NPROC ?= 16

test: $(VENV)/.installed-dev $(VENV)/.installed-native
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev $(VENV)/.installed-native
	$(BIN)/python -m pytest -m slow --timeout=1800 $(PYTEST_ARGS)

# The peers are large: they live in an environment of their own.
bench:
	$(MAKE) VENV=$(BENCH_VENV) bench-here

.PHONY: bench-here
bench-here: $(VENV)/.installed-bench $(VENV)/.installed-native
	$(BIN)/python benchmarks/bench_sampling.py $(BENCH_ARGS)
	$(BIN)/python benchmarks/bench_training.py $(BENCH_TRAINING_ARGS)
	$(BIN)/python benchmarks/bench_data.py $(BENCH_DATA_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) $(BENCH_VENV)
