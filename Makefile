# make demo    a strategy at 20x on the candles we ship: a table and one picture
# make test    the whole suite, slow tests too
# make check   format, lint, types, floors
# make pictures  draw the README's pictures anew
# make gallery  build docs/gallery from exchange records: make gallery ARGS=FOLDER
# make study   build docs/study.md from exchange records: make study ARGS=FOLDER; without, from the shipped candles (five minutes)
# make bench   measure, and rewrite benchmarks/RESULTS.md (a quarter of an hour)
# make bench-gate   measure what has a target; fails and names what is missed
# make bench-scale  long runs and many contracts, into benchmarks/RESULTS-SCALE.md (many minutes)
# make bench-peers   install other engines into .venv-peers, measure them too, and rewrite benchmarks/PEERS.md
#
# Everything is installed into $(VENV) on first use, and again when the versions asked for change. Another interpreter:
# make test PYTHON=python3.13 VENV=.venv-3.13. Options for pytest or the benchmark: make test ARGS="-k funding".

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
ASKED := setup.cfg pyproject.toml constraints.txt

.PHONY: demo test check format lint types floors pictures gallery study bench bench-gate bench-scale bench-peers dist clean

demo: $(VENV)/installed
	$(BIN)/bt-margin demo $(ARGS)

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n auto -m "slow or not slow" $(ARGS)

check: lint types floors

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

floors: $(VENV)/installed-test
	$(BIN)/python -m pytest tests/test_tidy.py

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pictures: $(VENV)/installed
	$(BIN)/python docs/pictures.py

gallery: $(VENV)/installed-report
	$(BIN)/python docs/gallery.py $(ARGS)

study: $(VENV)/installed-report
	$(BIN)/python docs/study.py $(ARGS)

bench: $(VENV)/installed
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-gate: $(VENV)/installed
	$(BIN)/python benchmarks/run.py --gate $(ARGS)

bench-peers: $(VENV)/installed
	$(BIN)/python benchmarks/peers.py $(ARGS)

bench-scale: $(VENV)/installed
	$(BIN)/python benchmarks/run.py --scale $(ARGS)

dist: $(VENV)/installed-test
	$(BIN)/python -m build $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# pip would compile the tests of every package too, one file after another: most of the time of a first install.
define install
$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.$(1)'
$(BIN)/python -W ignore -m compileall -q -j 0 -x '/(tests|pip|setuptools)/' $(VENV)/lib || true
touch $@
endef

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(ASKED) | $(BIN)/python
	$(call install,)

$(VENV)/installed-test: $(ASKED) | $(VENV)/installed
	$(call install,[test])

$(VENV)/installed-report: $(ASKED) | $(VENV)/installed
	$(call install,[parquet,report])

$(VENV)/installed-dev: $(ASKED) | $(VENV)/installed
	$(call install,[dev])
