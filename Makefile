# Everything sets itself up: all you need is make and Python 3.10 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
READY := $(VENV)/.ready
DOCS := $(VENV)/.docs

.PHONY: demo test check docs gpu-check gpu-wheels clean help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

ARMS := --activations relu sugar barelu relu+redo:every=200 --seeds 10

demo: $(DEMO)  ## dead units where they do not matter and where they do; ends with the path of the report
	$(BIN)/undying compare $(ARMS) --out demo/once
	$(BIN)/undying compare $(ARMS) --tasks 10 --epochs 40 --measure-every 4 --lr 0.003 --out demo/tasks
	$(BIN)/undying report demo/once demo/tasks --page demo/report.html

test: $(READY)  ## run every test
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(READY)  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(DOCS)  ## the pages and the reference as a site: build/docs/README.html
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -d build/doctrees docs build/docs

# With the Python that has the GPU's torch: nothing is installed.
gpu-check:  ## eight minutes on a GPU, PYTHON's torch: right, fast, trained; make gpu-check DRY=1 on a CPU
	$(PYTHON) tests/gpu_check.py $(if $(DRY),--dry) $(if $(DATA),--data-root $(DATA)) --out gpu-check

gpu-wheels: $(DEMO)  ## what it needs beside torch and torchvision, to be carried to a machine without a network
	$(BIN)/python -m pip download --quiet --dest gpu-wheels --no-deps --only-binary :all: $(GPU_WHEELS)

GPU_WHEELS := cloudpickle contourpy cycler docstring-parser fonttools iniconfig jinja2 joblib kiwisolver markdown-it-py markupsafe \
	matplotlib mdurl mpmath narwhals packaging pillow pluggy pygments pyparsing pytest python-dateutil rich scikit-learn scipy shtab \
	six threadpoolctl typeguard typing-extensions tyro

clean:  ## remove the environment, the demo and the site
	rm -rf $(VENV) demo build docs/reference gpu-check gpu-wheels

# What a user installs. A second time when torch is there: the kernels are compiled against its headers, where there is a
# compiler.
$(DEMO): pyproject.toml setup.py $(wildcard csrc/*)
	$(PYTHON) -c 'import sys; sys.exit("undying needs Python 3.10 or newer, not %d.%d: make PYTHON=/path/to/python3" % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[lab]"
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $(DEMO)

# And what the tests and checks need on top of it.
$(READY): $(DEMO)
	$(BIN)/python -m pip install --quiet --group dev
	touch $(READY)

# And what makes the site.
$(DOCS): $(DEMO)
	$(BIN)/python -m pip install --quiet --group docs
	touch $(DOCS)
