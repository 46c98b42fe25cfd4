# POSIX sh, GNU make 3.81. `make study` and `make test` do all the set-up; `make env` makes only the environment;
# `make docs` writes the pages of docs/ that follow from the code, `make results` the committed reports from their tables.
# --no-compile halves the time of `make env`: what is never imported needs no bytecode.
#   PYTHON=...       the interpreter to use (default: the first of python3.13 .. python3.11, python3, python that is >= 3.11)
#   TORCH_INDEX=...  a package index to take torch from (PyTorch's CPU wheels, for a Linux machine without a GPU)

SHELL = /bin/sh
VENV = .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
TORCH_INDEX =
PYTHON =

.PHONY: env study results test test-gpu test-long test-slurm test-slurm-extra docs site clean

env: $(STAMP)

study: $(STAMP)
	@$(BIN)/scaling launch sweeps/quickstart.yaml --yes

results: $(STAMP)
	@for table in results/*/runs.csv; do $(BIN)/scaling report "$$(dirname "$$table")" || exit 1; done

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-gpu:  # on a machine with a CUDA GPU, with its own Python and torch (2.6 or newer): GPU_PYTHON=... names another
	PYTHONPATH=".:$$PYTHONPATH" SCALING_TEST_DEVICE=cuda:0 "$${GPU_PYTHON:-python3}" -m pytest tests/gpu -rs -o filterwarnings=default

test-long: $(STAMP)
	SCALING_FUZZ_CASES=20000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz
	SCALING_FUZZ_CASES=5000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/results/test_results_damage.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/faults.py --count 550
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/long

test-slurm: $(STAMP)
	sh tests/slurm/run.sh $(BIN)/python "not daemons and not extra" daemons

test-slurm-extra: $(STAMP)
	sh tests/slurm/run.sh $(BIN)/python extra

docs: $(STAMP)
	$(BIN)/python docs/generate.py

# The pages as a site in .site/, by a builder of its own: the environment of the tests does not have it.
site: $(STAMP)
	@test -x .site-venv/bin/mkdocs || { $(BIN)/python -m venv .site-venv && .site-venv/bin/pip install -q mkdocs==1.6.1; }
	.site-venv/bin/mkdocs build --quiet

$(STAMP): pyproject.toml constraints.txt
	@python=""; \
	for candidate in "$(PYTHON)" python3.13 python3.12 python3.11 python3.14 python3 python; do \
	  if [ -n "$$candidate" ] && command -v "$$candidate" >/dev/null 2>&1 && \
	     "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "make: no Python >= 3.11 found. Install one:" >&2; \
	  case "$$(uname -s)" in \
	    Darwin) echo "  brew install python@3.12" >&2;; \
	    *) echo "  sudo apt-get install python3 python3-venv     (Debian 12, Ubuntu 24.04 or newer; Fedora: sudo dnf install python3)" >&2;; \
	  esac; exit 1; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	  version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "make: $$python has no venv module. Install it:" >&2; \
	  echo "  sudo apt-get install python$$version-venv" >&2; exit 1; \
	fi; \
	echo "environment: $$("$$python" --version) in $(VENV)"; \
	"$$python" -m venv $(VENV)
	@if [ -n "$(TORCH_INDEX)" ]; then \
	  $(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check --index-url "$(TORCH_INDEX)" torch==2.13.0; \
	fi
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e '.[train,hf,tiktoken,test]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV)
