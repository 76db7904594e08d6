# Ten verbs: setup, demo, test, test-ray, test-faults, test-pythons, fuzz, lint, docs, bench.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export RAY_USAGE_STATS_ENABLED := 0
# Ray's workers are nice by default, and starve beside other tests.
export RAY_worker_niceness := 0
# Where it is set, every process compiles the package and its tests anew: 30 CPU seconds of `make test`.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-ray test-faults test-pythons fuzz lint docs bench
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,docs]'
	touch $@

demo: setup
	$(BIN)/ltdiff demo --out demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow and not ray' -n 4 --dist loadfile --no-loadscope-reorder

# What runs on a Ray cluster, and waits for its processes most of the time.
test-ray: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'ray and not slow' -n 2 --dist loadfile

# What takes minutes: killed drivers, lost nodes, submitted jobs, servers that are down.
test-faults: setup
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

# A cross-section on the other Pythons of this machine; the first time downloads their dependencies, 3 GB with CUDA.
test-pythons:
	.ci/test-pythons

# 20,000 broken files in some minutes. A fault is printed with the number that makes it again.
fuzz: setup
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/fuzz/fuzz_run.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Into build/docs. Strict: a dead link fails.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# One thread for each process, as the workers have it; on a quiet machine.
bench: setup
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/bench/run.py bench.json
