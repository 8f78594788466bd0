# Two commands do everything, set-up included: `make demo` and `make test`.
.PHONY: demo test test-slow check setup clean
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:
	@echo "make demo       install what is missing, then run the whole pipeline on 47 photos (about 4 minutes on 2 cores)"
	@echo "make test       install what is missing, then lint, type-check and test"
	@echo "make test-slow  the long tests: kills at random moments, three seeds of the demo"

# pip's own words go to a log: they matter only when the installation fails.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: $$($(PYTHON) --version) is too old: Python 3.11 or newer is needed. Try: make PYTHON=python3.12 demo"; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (about 8 GB with the CUDA libraries of PyTorch; some minutes, once) ..."
	@$(VENV)/bin/python -m pip install --quiet --editable '.[demo,dev]' > $(VENV)/install.log 2>&1 || \
	    { cat $(VENV)/install.log; echo "error: the installation failed; the lines above say why"; exit 1; }
	@touch $@

setup: $(READY)

demo: $(READY)
	@$(VENV)/bin/orl run demo

check: $(READY)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

test: check
	@$(VENV)/bin/python -m pytest -m "not slow"

test-slow: $(READY)
	@$(VENV)/bin/python -m pytest -m slow --timeout=2400

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
