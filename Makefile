PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Another build of torch: make TORCH="torch==2.13.0 --index-url ADDRESS" (docs/gpus.md)
TORCH ?= torch==2.13.0
STAMP := $(VENV)/.installed

.PHONY: help demo test faults cluster check format readme bench clean

help:
	@echo "make demo    the main job end to end on worlds made on the spot: report in runs/demo"
	@echo "make test    all tests"
	@echo "make faults  kill, fill, cut and stop what a job needs, many times; prints what was lost"
	@echo "make cluster the demo, in small, on five hosts of this machine beside one; as root"
	@echo "make check   ruff and strict types"
	@echo "make readme  put the demo's tables and pictures into the README"
	@echo "make bench   measurements side by side"
	@echo "make clean   remove the environment; runs/ stays"

# torch first and pinned, so that no later step brings another build of it.
$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/ucn demo

# Two processes: most of the time is spent waiting for Ray.
test: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadfile

faults: $(STAMP)
	$(BIN)/pytest -m long -s tests/faults

cluster: $(STAMP)
	$(BIN)/pytest -m long -s tests/end_to_end

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

readme: $(STAMP)
	$(BIN)/python docs/update_readme.py

bench: $(STAMP)
	$(BIN)/python benchmarks/mining.py
	$(BIN)/python benchmarks/preprocess.py
	$(BIN)/python benchmarks/planning.py
	$(BIN)/python benchmarks/label_noise.py
	$(BIN)/python benchmarks/networks.py
	$(BIN)/python benchmarks/spatial_transformer.py
	$(BIN)/python benchmarks/step.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
