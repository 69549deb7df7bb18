# `make demo` and `make test` need Python 3.11 to 3.13, with venv, and the package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-ci test-all test-wheel conformance notebooks bench docs install lint clean

demo: $(VENV)/.runtime
	$(BIN)/python examples/demo.py

# A file to a worker, for the files share their finished runs. The long ones use all cores themselves.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# What people run: every recipe, the commands of the README and the site, bad inputs, kills and full disks. About 35 minutes.
test-ci: $(VENV)/.development
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "ci and not alone and not slow"
	$(BIN)/python -m pytest -m "alone and not slow"

test-all: lint $(VENV)/.torchvision
	$(BIN)/python -m pytest -m ""

# The wheel in a fresh environment, without the source: RESOLUTION=lowest-direct for the oldest dependencies.
RESOLUTION ?= highest
test-wheel: $(VENV)/.development
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHON="$(CURDIR)/$(BIN)/python" scripts/test_wheel.sh $(RESOLUTION)

# Against the preview, or the endpoint that TFS_REST_URL, TFS_GRPC_ADDRESS and TFS_MODEL name.
conformance: $(VENV)/.development
	$(BIN)/python -m pytest tests/conformance

# Executes examples/notebooks again and stores the outputs, in 5 to 15 minutes.
notebooks: $(VENV)/.development
	$(BIN)/python scripts/run_notebooks.py examples/notebooks/*.ipynb

# On a quiet machine: about 55 minutes. RUN=FOLDER, of a finished run, measures its network in int8 too.
bench: $(VENV)/.benchmarks
	$(BIN)/python benchmarks/cold_start.py --to benchmarks/results
	$(BIN)/python benchmarks/predict_folder.py --to benchmarks/results
	$(BIN)/python benchmarks/score_rows.py --rows 20000 --to benchmarks/results
	$(BIN)/python benchmarks/input_pipeline.py --to benchmarks/results
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/training.py --to benchmarks/results
	$(BIN)/python benchmarks/two_processes.py --to benchmarks/results
	$(BIN)/python benchmarks/inference.py --variants bn --to benchmarks/results
	$(BIN)/python benchmarks/inference.py --variants paper --to benchmarks/results/paper
	$(if $(RUN),$(BIN)/python benchmarks/int8.py $(RUN) --to benchmarks/results)
	$(BIN)/python benchmarks/serving.py --to benchmarks/results
	$(BIN)/python scripts/make_scaling.py --results benchmarks/results --to docs/scaling.md

# The site, into site/. `make docs` checks every link and fails on a warning.
docs: $(VENV)/.docs
	$(BIN)/python -m mkdocs build --strict

install: $(VENV)/.development

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python scripts/check_words.py

# For parity with torchvision's network. Its wheel asks for a GPU build of torch; the tests need none.
$(VENV)/.torchvision: $(VENV)/.development
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.29.2
	touch $@

# torch and torchvision are not among them: they come as above.
$(VENV)/.benchmarks: $(VENV)/.torchvision
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "openvino>=2025.0" "jax>=0.8"
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[serving]"
	touch $@

$(VENV)/.development: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[serving,jax,dev]"
	touch $@ $(VENV)/.runtime

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@

clean:
	rm -rf site $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist
