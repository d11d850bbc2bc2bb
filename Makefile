# Two commands do all their own set-up: make quickstart, make test.
PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .venv-bench
RUNS ?= runs
BIN := $(VENV)/bin
comma := ,
# Packages are installed once, and again when pyproject.toml or the C++ changes,
# which is built with the package where there is a compiler.
SOURCES := pyproject.toml native/CMakeLists.txt \
  $(wildcard native/*.py native/src/* native/stn_native/*.py)
.PHONY: help quickstart test test-all test-slow test-native bench lint clean
.DELETE_ON_ERROR:

help:
	@echo "make quickstart  train an ST-CNN and a CNN on rotated digits"
	@echo "make test        run the fast part of the tests"
	@echo "make test-all    run all but those that take minutes"
	@echo "make test-slow   run the tests that take minutes"
	@echo "make test-native run the loops in C++ under sanitizers"
	@echo "make bench       time sampler and training against other libraries"
	@echo "make lint        check style and types"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[demo]"
	@touch $@

$(VENV)/.installed-dev: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/.installed-demo

$(VENV)/.installed-bench: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$(BENCH_EXTRAS)]"
	@touch $@

quickstart: $(VENV)/.installed-demo
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
test test-all test-slow: export NPROC ?= 16

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --fast $(PYTEST_ARGS)

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow --timeout=1800 $(PYTEST_ARGS)

# For any machine, and for AVX2 where there is one.
LEVELS := baseline $(if $(shell grep -swm1 avx2 /proc/cpuinfo),v3)
test-native:
	mkdir -p build
	@for level in $(LEVELS); do \
	  case $$level in v3) machine=-march=x86-64-v3;; *) machine=;; esac; \
	  $(CXX) -std=c++17 -g -O0 -fsanitize=address,undefined \
	    -fno-sanitize-recover=all -Wno-psabi $$machine -DSTN_LEVEL=$$level \
	    native/check/kernels_check.cc native/src/kernels.cc \
	    -o build/kernels_check_$$level && \
	    build/kernels_check_$$level || exit 1; \
	done

# The peers are large: they live in an environment of their own.
BENCH_EXTRAS := bench$(if $(shell command -v nvidia-smi),$(comma)cuda)
bench:
	$(MAKE) VENV=$(BENCH_VENV) bench-here

.PHONY: bench-here
bench-here: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/bench_gpu.py $(BENCH_GPU_ARGS)
	$(BIN)/python benchmarks/bench_sampling.py $(BENCH_ARGS)
	$(BIN)/python benchmarks/bench_training.py $(BENCH_TRAINING_ARGS)
	$(BIN)/python benchmarks/bench_data.py $(BENCH_DATA_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) $(BENCH_VENV)
