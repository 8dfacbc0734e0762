# make demo    trains an RBM on handwritten digits and writes runs/demo/report.html
# make test    all tests but the slow ones;  make test-all  those too
# make lint    style and unused code
# make bench   speed beside peers (installs them)

PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python

.PHONY: demo test test-all lint bench clean

demo: .venv/demo.stamp
	@$(RUN) -m launch.train --experiment=rbm_digits --variant=pcd --workdir=runs/demo
	@$(RUN) -m launch.evaluate --workdir=runs/demo
	@echo runs/demo/report.html

test: .venv/test.stamp
	$(RUN) -m pytest -m "not slow"

test-all: .venv/test.stamp
	$(RUN) -m pytest

lint: .venv/test.stamp
	$(BIN)/ruff check .

bench: .venv/bench.stamp
	$(RUN) -m benchmarks.rbm
	$(RUN) -m benchmarks.seeds

clean:
	rm -rf .venv runs

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv

.venv/demo.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/test.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@ .venv/demo.stamp

.venv/bench.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	@touch $@
