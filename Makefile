# make demo needs python3 and pip, nothing else. Everything lives in $(VENV); no root.
SHELL := /bin/bash
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PY := $(VENV)/bin/python
INSTALL := $(PY) -m pip install --disable-pip-version-check -c constraints.txt
STAMPS := $(VENV)/stamps
RECIPE := pyproject.toml constraints.txt

# One torch thread per test process: the processes share the cores. What Python and pytest make of the files
# is kept, whatever is set elsewhere: to make it anew takes each process 20 seconds.
RUN_TESTS := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 MPLBACKEND=Agg $(PY) -m pytest -n $(JOBS)

.PHONY: gpu gpu-interpreted help demo test test-forget test-fast test-slow test-without-open3d coverage lint format types docs bench gallery examples dist clean

help:
	@echo "make demo      install, train GNNs with different pools, print which one extrapolates"
	@echo "make test      install everything, run all tests and doctests"
	@echo "make lint      ruff, lint and format          make types     mypy"
	@echo "make docs      HTML pages and their doctests  make examples  quick mode of every example"
	@echo "make coverage  which lines the tests run"
	@echo "make gallery   every picture in full          make bench     timings beside the alternatives"
	@echo "make gpu       tests, values and timings on a CUDA card, below ten minutes"
	@echo "make dist      wheel and sdist                make clean     remove what runs produced"

# --- environment -------------------------------------------------------------------------------

# Some distributions ship venv without ensurepip; pip of the outer Python then installs pip.
$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "graphpool needs Python 3.10 or newer, and $(PYTHON) is older. Name another: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --without-pip $(VENV) && \
	    $(PYTHON) -m pip --python $(PY) install pip; }
	mkdir -p $(STAMPS)
	touch $@

# torch first and by itself: nothing installed later may then choose another one.
$(STAMPS)/base: $(STAMPS)/venv $(RECIPE)
	$(INSTALL) -q setuptools wheel
	$(INSTALL) torch
	$(INSTALL) -q --no-build-isolation -e '.[viz]'
	touch $@

$(STAMPS)/tools: $(STAMPS)/base
	$(INSTALL) -q --no-build-isolation -e '.[viz,test,docs,dev]'
	touch $@

# Both compile against the installed torch. pip keeps the wheels it builds, so this is slow once;
# a wheel kept from another torch does not import, and is built anew. Without a compiler there is no
# stamp, so that the next call looks for one again.
$(STAMPS)/compiled: $(STAMPS)/base tools/build_compiled.sh
	if tools/build_compiled.sh $(PY); then touch $@; else [ $$? -eq 3 ]; fi

$(STAMPS)/all: $(STAMPS)/tools $(STAMPS)/compiled
	$(INSTALL) -q --no-build-isolation -e '.[viz,open3d,formats,data,dask,sketches,test,interop,docs,dev]'
	touch $@

# No test needs these, and some build themselves with tools that only an isolated build has.
$(STAMPS)/bench: $(STAMPS)/all
	$(INSTALL) -q -e '.[bench]'
	touch $@

# --- what people run ---------------------------------------------------------------------------

# Batches this small are done before a second thread has woken up.
demo: $(STAMPS)/base
	OMP_NUM_THREADS=1 $(PY) examples/swap_readouts.py --out outputs/demo

# Last of all, what was not tried for want of an optional part, and how to get that.
test: export GRAPHPOOL_NOT_TRIED := $(abspath $(VENV))/not-tried.txt
test: test-forget test-fast test-slow
	@sort -u $(GRAPHPOOL_NOT_TRIED) 2>/dev/null | sed 's/ ([0-9]* tests)$$//' | sort -u

test-forget:
	@rm -f $(GRAPHPOOL_NOT_TRIED)

test-fast: $(STAMPS)/all
	$(RUN_TESTS) -m "not slow" --doctest-modules tests graphpool

# Exit status 5 says that no test is marked slow.
test-slow: $(STAMPS)/all
	$(RUN_TESTS) -m slow tests || { status=$$?; [ $$status -eq 5 ]; }

# The tests of what reads files and meshes, as on a machine where open3d is installed and cannot load.
test-without-open3d: $(STAMPS)/all
	$(RUN_TESTS) -m "not slow" --unloadable open3d tests/mesh tests/datasets tests/io tests/field tests/test_info.py

# Which lines the fast tests run; what Numba or Triton compiles runs unseen.
coverage: $(STAMPS)/all
	$(RUN_TESTS) -m "not slow" --cov --cov-report=term:skip-covered --cov-report=html:outputs/coverage tests

lint: $(STAMPS)/tools
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(STAMPS)/tools
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(STAMPS)/tools
	$(PY) -m mypy

docs: $(STAMPS)/tools
	$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(PY) -m sphinx -W --keep-going -q -b doctest docs docs/_build/doctest
	echo "open docs/_build/html/index.html"

bench: $(STAMPS)/bench
	tools/run_scripts.sh $(PY) benchmarks outputs/bench

# Installs nothing: a machine with a card may have no network. Without a .venv it takes $(PYTHON) as it is.
# Status 77: there is no card. gpu-interpreted tries the script itself without one.
gpu:
	PYTHONPATH=. $(if $(wildcard $(PY)),$(PY),$(PYTHON)) benchmarks/gpu.py --out outputs/gpu

gpu-interpreted: $(STAMPS)/tools
	PYTHONPATH=. OMP_NUM_THREADS=1 $(PY) benchmarks/gpu.py --interpret --out outputs/gpu-interpreted

gallery: $(STAMPS)/all
	tools/run_scripts.sh $(PY) examples outputs/gallery

examples: $(STAMPS)/tools
	OMP_NUM_THREADS=1 tools/run_scripts.sh $(PY) examples outputs/quick --quick

dist: $(STAMPS)/tools
	$(PY) -m build --no-isolation --outdir dist .

clean:
	rm -rf build dist outputs docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
