# make demo     install, then the whole path once: events, training, counts, integer network, Lava, report
# make test     install, then every test
# make test-triton   install Triton too, then test the GPU kernels; without a GPU in Triton's interpreter, and compiled but not run
# make gpu      the same, then time them on a GPU
# make test-peers    the tests against live networks of SpikingJelly and Norse, from the environment of make bench
# make bench    install the libraries we compare with beside ours, then every benchmark, with its seconds
# PYTHON names the interpreter (3.10 to 3.13), PIP_ARGS is passed to every pip install.
# WORKERS is the number of processes that share the tests: one for each core unless given; 0: none but pytest's own.

PYTHON ?= python3
PIP_ARGS ?=
WORKERS ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc || echo 2)
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
SEED ?= 0
# The runs that quantization_loss.py judges are those of recipes.py.
BENCHMARKS := $(sort $(filter-out benchmarks/quantization_loss.py,$(wildcard benchmarks/*.py))) benchmarks/quantization_loss.py
# Each worker holds more than a gigabyte in the end, so there are eight at most. One that has nothing left takes over tests of another.
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

.PHONY: demo test test-triton test-peers test-full test-pythons lint bench gpu lava clean

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
	@$(PYTEST)

test-full: $(VENV)/installed-test lava
	@NEURO_TEST_FULL=1 $(PYTEST)

# SpikingJelly and Norse stay in an environment of their own; the tests look into its packages behind ours.
test-peers: $(VENV)/installed-test $(BENCH)/installed
	@NEURO_PEERS=$$($(BENCH)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") $(BIN)/pytest tests/interop

test-pythons:
	@$(PYTHON) tests/pythons.py

lint: $(VENV)/installed-test
	@$(BIN)/ruff check .

# The peers get an environment of their own. Every script runs; a failed check in one makes the whole fail at the end.
$(BENCH)/installed: pyproject.toml constraints.txt benchmarks/peers.txt
	@test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	@echo "installing neuro and the libraries it is compared with into $(BENCH) ..."
	@$(BENCH)/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e . snntorch==1.0.0
	@$(BENCH)/bin/python -m pip install --quiet $(PIP_ARGS) --no-deps -r benchmarks/peers.txt
	@touch $@

bench: $(BENCH)/installed
	@mkdir -p runs; list=; code=0; for script in $(BENCHMARKS); do \
		case $$script in */nir_conformance.py|*/models_table.py) with="--out runs/$$(basename $$script .py).md";; *) with=;; esac; \
		echo; echo "== $$script"; start=$$(date +%s); said=ok; \
		$(BENCH)/bin/python $$script $$with || { said=FAILED; code=1; }; \
		seconds=$$(( $$(date +%s) - start )); echo "$$script: $$seconds s, $$said"; \
		list="$$list$$(printf '%-40s %7d  %s' $$script $$seconds $$said)|"; \
	done; \
	echo; printf '%-40s %7s  %s\n' script seconds result; printf '%s' "$$list" | tr '|' '\n'; \
	exit $$code

test-triton: $(VENV)/installed-test
	@$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[gpu]'
	@$(BIN)/pytest tests/kernels/test_gpu.py tests/kernels/test_gpu_compiling.py tests/kernels/test_scans_on_gpu.py

gpu: test-triton $(BENCH)/installed
	@$(BENCH)/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[gpu]'
	@$(BENCH)/bin/python benchmarks/scan_gpu.py

clean:
	rm -rf build dist *.egg-info neuro_snn.egg-info .pytest_cache .ruff_cache .hypothesis
