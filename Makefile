# `make demo` and `make test` do all the set-up themselves; a second run starts at once.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --no-compile
# Where the page is served: make demo PORT=8000 (default: 7860, or the next free port)
PORT ?=
# Linux gets PyTorch's CUDA build by default; `make demo TORCH=cpu` takes the much smaller CPU build.
TORCH ?=
# Which Python: the first of these that can make a virtual environment. Or: make demo PYTHON=/path/to/python
PYTHONS := python3.11 python3.12 python3.13 python3.14 python3 python
PYTHON ?= $(shell for python in $(PYTHONS); do \
	$$python -c 'import ensurepip, venv, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' \
	2>/dev/null && echo $$python && break; done)
BROWSERS := chromium google-chrome chromium-browser
BENCHMARKS := encoder decoder everything backends folders click_to_paint startup_and_memory

.DEFAULT_GOAL := help
.PHONY: help demo test lint types bench bench-gpu screenshots clean

help:
	@echo "make demo [PORT=7860] [TORCH=cpu]   set up and open the demo"
	@echo "make test                           set up and run linters, unit, parity and browser tests"
	@echo "make lint | types | bench | bench-gpu | screenshots | clean"

demo: $(VENV)/.runtime
	$(PY) app.py $(if $(PORT),--port $(PORT))

test: lint $(VENV)/.browser
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --max-worker-restart 0

lint: $(VENV)/.development
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(VENV)/.development
	find mobilesam/ui -name "*.pyi" -delete # Gradio's, which mypy would read instead
	$(PY) -m mypy

bench: $(VENV)/.browser
	@for name in $(BENCHMARKS); do $(PY) -m benchmarks.$$name || exit 1; done

# MobileSAM's and SAM's times on an NVIDIA GPU; says so where there is none.
bench-gpu: $(VENV)/.runtime
	$(PY) -m benchmarks.gpu

# The README's pictures, from the real page.
screenshots: $(VENV)/.browser
	$(PY) -m scripts.screenshots

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build dist *.egg-info
	find mobilesam tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
	find mobilesam/ui -name "*.pyi" -delete

# The stamp files: made when a step has succeeded, renewed when its requirements change.

$(PY):
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 with its venv module is needed and was not \
	found (on Debian: apt install python3 python3-venv). Or: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt pre-requirements.txt | $(PY)
	$(if $(filter cpu,$(TORCH)),$(PIP) -r pre-requirements.txt)
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.runtime
	$(PIP) -r requirements-dev.txt
	@touch $@

# One browser already installed, else Debian's package (as root), else Playwright's own.
$(VENV)/.browser: $(VENV)/.development
	@root=$$(test "$$(id -u)" != 0 || echo yes); \
	for name in $(BROWSERS); do found=$$(command -v $$name) && break; done; \
	if test -n "$$found"; then echo "Browser for the tests: $$found"; \
	elif test -n "$$root" && grep -qs '^ID=debian' /etc/os-release && apt-get update -q \
		&& apt-get install -qy --no-install-recommends chromium; then :; \
	else $(PY) -m playwright install $${root:+--with-deps} chromium; fi
	@touch $@
