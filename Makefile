# Needs Python 3.11, 3.12 or 3.13 (or uv): everything else is set up in .venv by the first command.

.DEFAULT_GOAL := help
.PHONY: help try demo fuzz test test-sweep test-faults test-slurm test-cuda-compiler slurm-packages torch lint clean

PYTHON_FILES := .ci configs launch main.py rig3r_jax tests
SETUP_FILES := pyproject.toml constraints.txt launch/setup.sh .venv/bin/python
WORKERS ?= 2
# A file's tests stay on one worker, which builds once what they share; tests/conftest.py orders the files.
PYTEST = .venv/bin/python -m pytest -n $(WORKERS) --dist=loadfile --no-loadscope-reorder --durations=10
PYTEST_ARGS ?=
MINUTES ?= 10
DEMO_ARGS ?=

help:
	@echo "make try     set up the core install, then reconstruct example images with the model that comes along"
	@echo "make demo    set up, then train, evaluate and report on procedurally rendered data (DEMO_ARGS='--workdir=...'"
	@echo "             adds flags)"
	@echo "make test    set up, then run the tests (PYTEST_ARGS='tests/geometry -k golden' picks some, WORKERS=2)"
	@echo "             RIG3R_TORCH=1 installs PyTorch for its tests, RIG3R_NO_SKIPS=1 makes a skipped test a failure"
	@echo "make test-sweep"
	@echo "             set up, then run every sweep: tests of half a minute and more, which make test leaves"
	@echo "             out while what they cover is as it was when they passed (tests/sweeps.json)"
	@echo "make test-faults"
	@echo "             set up, then do to small runs what docs/faults.md lists: kills, full disks, flipped bytes; as root with"
	@echo "             file systems mounted for it too"
	@echo "make fuzz    set up, then read damaged files by every reader (MINUTES=10)"
	@echo "make test-slurm"
	@echo "             set up, then run the batch scripts of launch/ on a SLURM of their own; names the packages that"
	@echo "             this wants where they are missing, or as root installs them under RIG3R_INSTALL_SLURM=1"
	@echo "make test-cuda-compiler"
	@echo "             compile the step for GPUs that need not be there, and count what they would run (.venv-cuda: 4 GB,"
	@echo "             Python 3.12)"
	@echo "make torch   set up, then install PyTorch, which rig3r parity twin and bench --peer torch compare with"
	@echo "make lint    set up, then check the style of the code"
	@echo "make clean   remove .venv and caches; results under runs/ stay"
	@echo "             PYTHON=/path/to/python picks the interpreter"

# What was tried before is made anew.
try: .venv/.have-core
	rm -rf runs/try
	.venv/bin/rig3r try runs/try

demo: .venv/.have-train
	.venv/bin/python main.py --config=configs/demo.py $(DEMO_ARGS)

test: .venv/.have-dev $(if $(filter 1,$(RIG3R_TORCH)),.venv/.have-torch)
	$(PYTEST) $(PYTEST_ARGS)

test-sweep: .venv/.have-dev .venv/.have-torch
	RIG3R_SWEEP=1 $(PYTEST) -m sweep

# The tests of this folder alone, fault_slow ones included (tests/faults/conftest.py).
test-faults: .venv/.have-dev
	$(PYTEST) -m fault tests/faults

fuzz: .venv/.have-dev
	.venv/bin/python -m tests.faults.fuzz --minutes $(MINUTES)

test-slurm: slurm-packages .venv/.have-dev
	$(PYTEST) -m slurm tests/launch

# JAX's CUDA plugin, in a venv of its own beside .venv: Python 3.12 or newer.
CUDA_VENV := .venv-cuda

test-cuda-compiler: $(CUDA_VENV)/.ready
	$(CUDA_VENV)/bin/python -m pytest -m cuda_compiler tests/benchmarks/cuda_compiler_test.py

$(CUDA_VENV)/.ready: pyproject.toml constraints.txt
	$(or $(PYTHON),python3.12) -m venv $(CUDA_VENV)
	$(CUDA_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt \
		--editable '.[dev,cuda13,flash,tokamax]'
	touch $@

slurm-packages:
	@sh tests/launch/packages.sh

torch: .venv/.have-torch

lint: .venv/.have-dev
	.venv/bin/python -m ruff check $(wildcard $(PYTHON_FILES))

clean:
	rm -rf .venv $(CUDA_VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Another interpreter than the one that made .venv is asked for: set up again.
ifneq ($(PYTHON),)
ifneq ($(PYTHON),$(shell cat .venv/.interpreter 2>/dev/null))
SETUP_FILES += again
endif
endif
.PHONY: again
again:

# No recipe: where the interpreter is missing or newer than a mark, set up again.
.venv/bin/python:

# The marks are set by launch/setup.sh; what needs more comes with what needs less.
comma := ,
.venv/.have-core: $(SETUP_FILES)
	@sh launch/setup.sh core

.venv/.have-train: $(SETUP_FILES)
	@sh launch/setup.sh train

.venv/.have-dev: $(SETUP_FILES)
	@sh launch/setup.sh train,train-tf,data,export,video,view,dev$(if $(filter 1,$(RIG3R_TORCH)),$(comma)torch)

.venv/.have-torch: $(SETUP_FILES) | .venv/.have-dev
	@sh launch/setup.sh torch
