# make demo    trains an RBM on handwritten digits and writes runs/demo/report.html
# make story   trains every family on the digits, writes runs/story/report.html and table.json
# make test    all tests but the slow ones;  make test-all  those too, compiled as users compile
# make lint    style, unused code, types
# make docs    the documentation, docs/_build/html; executes its notebooks
# make bench   speed beside peers (installs them), benchmarks/README.md; BENCHMARKS="rbm vae": only these

PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python
BENCHMARKS ?= rbm vae gan gan_grid discrete evaluation target seeds start memory growth

.PHONY: demo story test test-all lint docs bench clean

demo: .venv/demo.stamp
	@$(RUN) -m launch.train --experiment=rbm_digits --variant=pcd --workdir=runs/demo
	@$(RUN) -m launch.evaluate --workdir=runs/demo
	@echo runs/demo/report.html

story: .venv/demo.stamp
	@$(RUN) -m launch.story --workdir=runs/story

test: .venv/test.stamp
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile --durations=25 -m "not slow"

test-all: .venv/test.stamp
	XLA_FLAGS="$$XLA_FLAGS" $(RUN) -m pytest --numprocesses=2 --dist=loadfile --durations=25

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/pyrefly check --python-interpreter-path $(RUN)

docs: .venv/docs.stamp
	$(RUN) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo docs/_build/html/index.html

bench: .venv/bench.stamp
	for name in $(BENCHMARKS); do \
	  $(RUN) -m benchmarks.$$name --json=benchmarks/results/$$name.json || exit; done
	$(RUN) -m benchmarks.tables

clean:
	rm -rf .venv runs docs/_build docs/reference docs/project

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv

.venv/demo.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/test.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@ .venv/demo.stamp

.venv/docs.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $@ .venv/demo.stamp

.venv/bench.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	@touch $@
