# Learning without backpropagation: a reproducible paper collection.
#
#   PROFILE=quick|standard|paper   M="name ..." chooses notebooks   JOBS=number at once
#   TORCH=cpu|cu130|...            build of PyTorch; left out: as pip finds it

PYTHON  ?= python3
PROFILE ?= quick
M       ?=
JOBS    ?=
TORCH   ?=
# GNU nproc obeys OpenMP's variables, which clusters set to one
CORES   := $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || sysctl -n hw.ncpu)

ENV   := .venv
PY    := $(ENV)/bin/python
READY := $(ENV)/.ready# says where the checkout was
KEPT  := $(shell cat $(ENV)/.torch 2>/dev/null)# the build of PyTorch that was asked for
BUILD := $(or $(TORCH),$(KEPT))
RUN   := $(PY) -m bpfree_common run --profile $(PROFILE) $(if $(JOBS),--jobs $(JOBS))
INDEX := $(if $(BUILD),--extra-index-url https://download.pytorch.org/whl/$(BUILD))

FIRST := reports/standard/overview/overview.ipynb

.DEFAULT_GOAL := help
.PHONY: help env reports figures test lint unit notebooks lab data check readme site bench lock clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# An environment that cannot work is told, and one with another PyTorch made as asked.
STATE := $(shell [ -e $(READY) ] || exit 0; \
  $(PY) -c '' 2>/dev/null || { echo broken; exit 0; }; \
  [ ! -s $(READY) ] || [ "$$(cat $(READY))" = "$$(pwd -P)" ] || echo moved)
ifneq ($(filter-out help env lock clean,$(or $(MAKECMDGOALS),help)),)
ifeq ($(STATE),broken)
$(error $(PY) does not run any more: `make env` makes the environment anew)
endif
ifeq ($(STATE),moved)
$(error $(ENV) belongs to another folder than this one: `make env` makes it anew)
endif
endif
ifneq ($(BUILD),$(KEPT))
.PHONY: $(READY)
endif
ifneq ($(STATE),)
.PHONY: $(READY)
endif

env: $(READY) ## Create the environment in .venv (TORCH=cpu|cu130 chooses a build of PyTorch)

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || \
	  { echo "error: there is no $(PYTHON): install Python 3.11 or newer, or set PYTHON=" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $$($(PYTHON) --version) is too old: install Python 3.11 or newer, or set PYTHON=" >&2; exit 2; }
	$(PYTHON) -m venv $(if $(STATE),--clear) $(ENV)
	@# another build has the same version: pip would leave the one that is there
	$(if $(filter-out $(KEPT),$(BUILD)),$(PY) -m pip uninstall --quiet --yes torch)
	$(PY) -m pip install --quiet --disable-pip-version-check $(INDEX) -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@echo '$(BUILD)' > $(ENV)/.torch && pwd -P > $@

reports: $(READY) ## Run every stale notebook into reports/ (PROFILE=standard, M=forward_forward)
	@$(RUN) $(M)

figures: $(READY) ## Put all figures into reports/figures/ (PROFILE=standard: of committed reports)
	@# quick reports are brought up to date first; no other profile is run for its figures
	@$(if $(filter quick,$(PROFILE)),$(RUN) --figures $(M),\
	  $(PY) -m bpfree_common figures --profile $(PROFILE) $(M))

test: lint unit notebooks ## Run all tests: lint, units, quick notebooks, and nbval, which repeats them

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m nbstripout --keep-id --verify $$(git ls-files 'notebooks/*.ipynb')

unit: $(READY)
	$(PY) -m pytest -n $(or $(JOBS),$(CORES)) --dist worksteal

notebooks: $(READY)
	$(PY) -m bpfree_common run $(if $(JOBS),--jobs $(JOBS))
	rm -rf reports/again
	OMP_NUM_THREADS=1 $(PY) -m pytest -o addopts= -q -n $(or $(JOBS),$(CORES)) --dist loadscope \
	  -p bpfree_common.running.repeat --again reports/again/quick \
	  --nbval --nbval-current-env \
	  --nbval-cell-timeout=300 reports/quick
	$(PY) -m bpfree_common compare --records reports/quick reports/again/quick
	rm -rf reports/again

lab: $(READY) ## Open the overview in JupyterLab, and from there reports and notebooks
	@# in a container as root too
	$(PY) -m jupyter lab --ServerApp.root_dir=. $(if $(filter 0,$(shell id -u)),--allow-root) \
	  --LabApp.default_url=/lab/tree/$(FIRST)

data: $(READY) ## Download and verify all data sets (M="mnist cora" chooses)
	@$(PY) -m bpfree_common data $(M)

check: $(READY) ## Say which reports are stale (PROFILE=standard)
	@$(PY) -m bpfree_common check --profile $(PROFILE) $(M)

readme: $(READY) ## Write README's findings and list of papers from the standard records
	@$(PY) -m bpfree_common readme

site: $(READY) ## Build the website from committed reports (REPOSITORY=owner/name: Colab badges)
	@$(PY) -m bpfree_common site $(if $(REPOSITORY),--repository $(REPOSITORY))

bench: $(READY) ## Measure the laboratory's own cost and the rules' step times
	OMP_NUM_THREADS=1 $(PY) tests/benchmark.py

lock: ## Pin the newest versions that pyproject.toml allows into requirements.lock
	$(PYTHON) -m venv $(ENV)-lock
	$(ENV)-lock/bin/python -m pip install --quiet $(INDEX) '.[lab,dev,site]'
	echo "# Every package of the environment, pinned. Made by 'make lock' from pyproject.toml." > requirements.lock
	$(ENV)-lock/bin/python -m pip freeze --exclude bpfree-common | sed 's/+[a-z0-9]*$$//' >> requirements.lock
	rm -rf $(ENV)-lock build

clean: ## Remove the environment, quick reports, figures and caches
	rm -rf $(ENV) reports/quick reports/again reports/custom reports/interactive reports/figures \
	  reports/failed reports/.staging reports/site .pytest_cache .ruff_cache *.egg-info build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
