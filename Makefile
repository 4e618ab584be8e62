# `make lab` opens the course and `make test` tries all of it. What they do is in tools/setup_env.py.
#
#   make lab PYTHON=python3.12      with another Python
#   make lab TORCH_BACKEND=cpu      PyTorch without CUDA, gigabytes smaller (no NVIDIA GPU)
#   make test JOBS=4                with four processes of tests instead of two
#   make lab BROWSER=none PORT=0    on a remote machine: prints the address, opens no browser

PYTHON ?= python3
PORT ?= 8888
PYTEST_ARGS ?=
JOBS ?= 2
LESSON ?= 06

ifeq ($(OS),Windows_NT)
IN_VENV := .venv/Scripts/python
LOWEST := build/lowest/Scripts/python
else
IN_VENV := .venv/bin/python
LOWEST := build/lowest/bin/python
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
endif

# A Python that was asked for replaces another one's environment; the default one does not.
SETUP = @$(PYTHON) tools/setup_env.py \
	$(if $(filter command environment override,$(firstword $(origin PYTHON))),--this-python) \
	$(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND))

.DEFAULT_GOAL := help
.PHONY: help lab test test-all test-lowest lock notebooks assignment repair clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

lab: ## install what is missing and open the course in JupyterLab
	$(SETUP) --extras lab,train
	@$(IN_VENV) -m jupyter trust notebooks/*.ipynb >/dev/null  # else stored widgets stay blank until they are run
	@echo "Opening JupyterLab on this machine only; stop it with Ctrl+C."
	@$(IN_VENV) -m jupyterlab $(AS_ROOT) $(if $(filter none,$(BROWSER)),--no-browser) \
		--ServerApp.ip=127.0.0.1 --ServerApp.port=$(PORT) --ServerApp.root_dir=notebooks \
		--LabApp.default_url=/lab/tree/00_start_here.ipynb --LabApp.news_url=None \
		--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.extension_manager=readonly

# Several processes, a file at a time, the long ones (browser, notebooks) early. Threads that wait sleep: spinning, they
# would hold the cores that the other processes need.
SHARED = --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder

test: ## install what is missing and run everything: style, types, tests
	$(SETUP) --extras lab,train,test
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m ruff format --check .
	$(IN_VENV) -m mypy
	OMP_WAIT_POLICY=passive $(IN_VENV) -m pytest $(SHARED) --doctest-modules mambaout_edu tests $(PYTEST_ARGS)

test-all: test-lowest ## `make test` with what needs many seeds, kills or repeats, and the lowest versions
	$(MAKE) test PYTEST_ARGS="--slow $(PYTEST_ARGS)"

test-lowest: ## the unit tests with the lowest versions that pyproject.toml allows
	$(SETUP) --extras lab,train,test --venv build/lowest --resolution lowest-direct
	$(LOWEST) -m pytest -W default tests/unit $(PYTEST_ARGS)

lock: ## write constraints.txt anew
	$(SETUP) --extras lab,train,test
	@$(IN_VENV) -m uv --version >/dev/null || { echo "make lock needs uv, which could not be installed."; exit 1; }
	$(IN_VENV) tools/setup_lock.py

notebooks: ## run the notebooks and store their outputs
	$(SETUP) --extras lab,train,test
	$(IN_VENV) tools/store_outputs.py

assignment: ## hand a lesson out through nbgrader: make assignment LESSON=06
	$(SETUP) --extras lab,train
	$(IN_VENV) -m tools.assignment $(LESSON)

repair: ## make .venv anew, with what it held
	$(SETUP) --extras lab,train --repair

clean: ## remove caches and what was built (not .venv: delete that folder yourself)
	rm -rf build dist test-results .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mambaout_edu tests tools benchmarks notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
