#!/bin/sh
# Everything a CUDA GPU can show, with the torch (2.6 or newer) that this machine has: under 9 minutes.
#   sh benchmarks/gpu.sh                            writes results/benchmarks/gpu.md and gpu.json
#   PYTHON=/path/to/python sh benchmarks/gpu.sh --parts training
set -eu
cd "$(dirname "$0")/.."
export CUBLAS_WORKSPACE_CONFIG=:4096:8    # CUDA's condition for repeatable products
PYTHONPATH=".:${PYTHONPATH:-}" exec "${PYTHON:-python3}" benchmarks/gpu.py --out results/benchmarks/gpu "$@"
