# Everything from a bare Python 3.11: `make demo`, `make test` and the rest create .venv first.
PYTHON ?= python3.11
VENV := .venv
READY := $(VENV)/.ready
# Tests that run at a time, one thread each. Neighbours stay together, since they share fixtures;
# whoever is done takes over the end of what another still has before it.
WORKERS ?= 2
PYTEST := $(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal

.PHONY: demo test test-all lint clean

demo: $(READY)
	$(VENV)/bin/partsig demo

test: $(READY)
	$(PYTEST) -m "not slow"

test-all: $(READY)
	$(PYTEST)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade --constraint constraints.txt pip setuptools
	# torch first: its archives, nearly 3 GB, are gone from the disk before the rest is fetched.
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $(READY)

clean:
	rm -rf $(VENV) build partsig.egg-info
