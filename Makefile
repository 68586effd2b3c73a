# The commands of this repository. Each makes what it needs first; a second call takes seconds.

PYTHON ?= python3
# A folder with one study to send in `make demo`; empty: a phantom.
STUDY ?=
# Parallel processes of tests and of the conformance suite.
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test lint conformance bench lock clean

help:
	@echo 'make demo         send one spine CT through the node and show what comes back (STUDY=folder for your own)'
	@echo 'make setup        install the pinned dependencies and dicom-ai-node into $(VENV)'
	@echo 'make test         all tests, with the real DICOM tools they need'
	@echo 'make lint         ruff and mypy'
	@echo 'make conformance  every kind of result object through the validators'
	@echo 'make bench        speed, side by side with peers'
	@echo 'make lock         renew the lock files from pyproject.toml'

setup: $(READY)

$(READY): requirements.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "dicom-ai-node needs Python 3.11 or later: set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --require-hashes requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/dicom-ai-node demo --keep demo $(if $(STUDY),--study '$(STUDY)')

test: setup
	tests/install-debian-packages.sh
	tests/install-ohif.sh
	$(BIN)/python -m pytest -n $(JOBS) $(PYTEST_ARGUMENTS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

conformance: setup
	tests/install-debian-packages.sh
	$(BIN)/python -m conformance.run --jobs $(JOBS)

bench: setup
	$(BIN)/dicom-ai-node bench all

lock: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra test --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header pyproject.toml -o requirements.lock
	sed -n '/^uv==/,/# via/p' requirements.lock > requirements-uv.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache demo
