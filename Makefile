# make demo     install, then the whole path once: events, training, counts, integer network, Lava, report
# make test     install, then every test
# make bench    the benchmarks
# PYTHON names the interpreter (3.10 to 3.13), PIP_ARGS is passed to every pip install.

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0

.PHONY: demo test test-full test-pythons lint bench lava clean

$(VENV)/installed: pyproject.toml constraints.txt
	@start=$$(date +%s); \
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	echo "installing neuro and what it needs into $(VENV) ..."; \
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e . && \
	echo $$(( $$(date +%s) - start )) > $@ && \
	echo "installed in $$(cat $@) s"

$(VENV)/installed-test: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[test]' && touch $@

# Lava needs a Python 3.10 of its own; without one the rest works and says so.
lava: $(VENV)/installed
	@PIP_ARGS="$(PIP_ARGS)" $(BIN)/neuro lava install --if-possible true

demo: $(VENV)/installed lava
	@$(BIN)/neuro demo --out runs/demo --seed $(SEED) --seconds-install $$(cat $(VENV)/installed)

test: $(VENV)/installed-test lava
	@$(BIN)/ruff check .
	@$(BIN)/pytest

test-full: $(VENV)/installed-test lava
	@NEURO_TEST_FULL=1 $(BIN)/pytest

test-pythons:
	@$(PYTHON) tests/pythons.py

lint: $(VENV)/installed-test
	@$(BIN)/ruff check .

bench: $(VENV)/installed-test
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf build dist *.egg-info neuro_snn.egg-info .pytest_cache .ruff_cache .hypothesis
