"""`benchmarks/gpu.py` on tiny models: every part gives its table."""

import os
import subprocess
import sys
from pathlib import Path

from gpu_device import DEVICE

ROOT = Path(__file__).parents[2]


def test_every_part_of_the_benchmark_runs():
    command = [sys.executable, "benchmarks/gpu.py", "--device", DEVICE, "--tiny"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    titles = [line.removeprefix("## ") for line in done.stdout.splitlines() if line.startswith("## ")]
    parts = ["Training", "Low-rank over dense", "Updates", "Device", "Repeats", "Serving", "Small steps", "Packing"]
    assert titles == parts
