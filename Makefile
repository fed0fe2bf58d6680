# Needs python3 (3.11 or newer, with pip) and make; sets up its own virtual environment in .venv. `make help` lists targets.
# All paths are relative, so that the checkout may lie in a folder with spaces in its name.

# Another interpreter: make test PYTHON=python3.13 (run make clean first when you change it).
PYTHON ?= python3
# Test processes, one BLAS thread each; 0 runs everything in one process, for a debugger.
WORKERS ?= 2
# More arguments for pytest: make test PYTEST_ARGS="-k batch_norm"
PYTEST_ARGS ?=
# 12 or 13: make gpu-test CUDA=13 installs CuPy for this CUDA version first.
CUDA ?=
# A copy of MathJax for make docs and make site: es5/tex-svg.js of the npm package mathjax, instead of downloading it.
MATHJAX ?=
# For make site and make browser-test: a folder with Pyodide and its NumPy, or another version of it, instead of the tested one from the network.
PYODIDE ?=
# 1: make bench PEERS=1 installs PyTorch and others first, to compare with.
PEERS ?=
# 1: make test-matrix SMOKE=1 runs a few test files on each interpreter instead of the whole fast tier.
SMOKE ?=
# How long make fuzz goes on, and where its cases begin.
SECONDS ?= 60
SEED ?= 0

VENV := .venv
PY := $(VENV)/bin/python
PYTEST := MPLBACKEND=Agg OPENBLAS_NUM_THREADS=$${OPENBLAS_NUM_THREADS:-1} $(PY) -m pytest -q
SETUP := $(VENV)/.created setup.cfg pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo test test-more test-slow test-matrix lectures bench lint gpu-test cuda-check torch-oracle fuzz docs site site-serve browser-test release study clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.demo  ## train a small network and show what the tape knows about it
	@$(PY) -m scripts.demo

test: $(VENV)/.test  ## the fast tests and every example in a docstring, on all backends that this machine has
	@$(PYTEST) -n $(WORKERS) $(PYTEST_ARGS)

test-more: $(VENV)/.test  ## further cases of what the fast tests look at once: every op in all dtypes, every layer in both orders
	@$(PYTEST) -n $(WORKERS) $(PYTEST_ARGS) -m "more and not slow"

test-slow: $(VENV)/.test  ## the slow tier: trainings, mutants, an installed wheel
	@$(PYTEST) -n $(WORKERS) $(PYTEST_ARGS) -m slow

test-matrix:  ## the fast tests on every supported Python that is there, with old and new NumPys; SMOKE=1 for a few files
	@"$(PYTHON)" -m tests.matrix --workers $(WORKERS) $(if $(SMOKE),--smoke) $(PYTEST_ARGS)

lectures: $(VENV)/.test  ## execute every lecture notebook from top to bottom
	@$(PYTEST) $(PYTEST_ARGS) -m notebook

bench: $(VENV)/.demo  ## run the benchmarks; make bench PEERS=1 installs the frameworks to compare with first
	@$(if $(PEERS),$(call install,.[bench]))
	@for file in benchmarks/[!_]*.py; do \
		[ -e "$$file" ] || { echo "There are no benchmarks in benchmarks/ yet."; break; }; \
		echo "== $$file"; $(PY) -m "benchmarks.$$(basename "$$file" .py)" || exit 1; done

lint: $(VENV)/.lint  ## ruff, mypy and codespell
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) -m codespell_lib

gpu-test: $(VENV)/.test  ## the tests on a GPU; make gpu-test CUDA=12 (or 13) installs CuPy first
	@$(if $(CUDA),$(call install,.[cuda$(CUDA)]))
	@$(PY) -c "import cupy" 2>/dev/null || { echo "CuPy is missing: make gpu-test CUDA=12, or CUDA=13, to fit your driver."; exit 1; }
	@$(PYTEST) $(PYTEST_ARGS) --backend cupy
	@MINIGRAD_LECTURE_BACKEND=cupy $(PYTEST) $(PYTEST_ARGS) -m notebook

cuda-check: $(VENV)/.cuda  ## compile the CUDA kernels with NVRTC, print their registers and run them on the CPU; needs no GPU
	@MINIGRAD_CUDA_CHECK=1 $(PYTEST) $(PYTEST_ARGS) -m "not slow" tests/test_kernels_cuda.py tests/test_cuda_emulator.py

torch-oracle: $(VENV)/.test  ## compare all ops, layers and optimizers with PyTorch on the samples of its own tests; installs PyTorch and expecttest
	@$(PY) -c "import torch, expecttest" 2>/dev/null || { $(call install,.[oracle]); } || :
	@if $(PY) -c "import torch, expecttest" 2>/dev/null; then $(PYTEST) -n $(WORKERS) $(PYTEST_ARGS) -m torch_oracle tests/torch_oracle; \
	else echo "Skipped: PyTorch or expecttest is not there and could not be installed. Nothing was compared."; fi

fuzz: $(VENV)/.test  ## random programs against what must hold for any program; make fuzz SECONDS=1200 SEED=1
	@OPENBLAS_NUM_THREADS=1 $(PY) -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

docs: $(VENV)/.docs  ## the documentation as web pages in build/site/docs; every link and name in it is checked
	@$(PY) -m lectures.site.docs $(if $(MATHJAX),--mathjax "$(MATHJAX)")

site: $(VENV)/.site  ## the executed lectures, the documentation and the homework in the browser, in build/site; MATHJAX=, PYODIDE= without a network
	@$(PY) -m lectures.site $(if $(MATHJAX),--mathjax "$(MATHJAX)") $(if $(PYODIDE),--pyodide "$(PYODIDE)")

site-serve: $(VENV)/.demo  ## serve build/site on this machine: the homework pages need a server
	@$(PY) -m lectures.site.serve

browser-test: $(VENV)/.browser  ## type into the homework pages in Chromium: make browser-test PYODIDE=folder
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null && command -v chromedriver >/dev/null || \
		{ echo "make browser-test needs chromium and chromedriver: install Debian's packages chromium and chromium-driver, or your system's."; exit 1; }
	@[ -f "$(PYODIDE)/pyodide-lock.json" ] || \
		{ echo "make browser-test needs a folder with Pyodide and its NumPy: make browser-test PYODIDE=folder (a release of Pyodide, unpacked)."; exit 1; }
	@PYODIDE="$$(cd "$(PYODIDE)" && pwd)" $(if $(MATHJAX),MATHJAX="$$(realpath "$(MATHJAX)")") $(PYTEST) $(PYTEST_ARGS) -m browser tests/test_browser.py

release: $(VENV)/.demo  ## make the students' tree, without solutions, in build/release
	@$(PY) -m lectures.release

study: $(VENV)/.demo  ## measure the derivation checker: mutants, equivalent rewrites, 10,000 seeds (some minutes)
	@$(PY) -m lectures.study --jobs $(WORKERS)

clean:  ## remove everything that make created, the virtual environment included
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the virtual environment ------------------------------------------------------------------------------------------

# $(call install,REQUIREMENT): with uv where it is there and works, else with the environment's own pip, else with the
# pip of $(PYTHON) (an environment made without ensurepip, or by uv, has no pip of its own).
install = if command -v uv >/dev/null 2>&1 && uv pip install -q --python $(PY) -e "$(1)"; then :; \
	elif $(PY) -m pip --version >/dev/null 2>&1; then $(PY) -m pip install -q --disable-pip-version-check -e "$(1)"; \
	else "$(PYTHON)" -m pip --python $(PY) install -q --disable-pip-version-check -e "$(1)"; fi

$(VENV)/.created:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "minigrad needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + ". Say which to use: make PYTHON=/path/to/python3")'
	@echo "Setting up $(VENV): half a minute the first time."
	@if command -v uv >/dev/null 2>&1 && uv venv -q --allow-existing --python "$$(command -v "$(PYTHON)")" $(VENV); then :; \
	else "$(PYTHON)" -m venv $(VENV) >/dev/null 2>&1 || "$(PYTHON)" -m venv --without-pip $(VENV); fi
	@touch $@

$(VENV)/.demo: $(SETUP)
	@$(call install,.)
	@touch $@

$(VENV)/.test: $(SETUP)
	@$(call install,.[test])
	@touch $(VENV)/.demo $@

$(VENV)/.browser: $(SETUP)
	@$(call install,.[browser])
	@touch $(VENV)/.demo $@

$(VENV)/.lint: $(SETUP)
	@$(call install,.[lint])
	@touch $(VENV)/.demo $@

$(VENV)/.cuda: $(VENV)/.test
	@$(call install,.[cuda-check])
	@touch $@

$(VENV)/.docs: $(SETUP)
	@$(call install,.[docs])
	@touch $(VENV)/.demo $@

$(VENV)/.site: $(VENV)/.docs
	@$(call install,.[notebooks])
	@touch $@
