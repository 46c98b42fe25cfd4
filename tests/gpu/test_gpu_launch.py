"""A small sweep through the command line, on the device: plan, launch, status, report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.rows import read_runs

SWEEP = """
sweep: small
question: Does a sweep go from its file to its report on this device?
data: {corpus: python-stdlib, tokenizer: bytes, validation_tokens: 16k}
grid:
  kind: points
  points:
    - {shape: {layers: 2, width: 32, heads: 2, ff_width: 88}, tokens: 24576}
    - {shape: {layers: 2, width: 48, heads: 2, ff_width: 128}, tokens: 24576}
families:
  dense:    {parameterization: dense,    optimizer: muon,     lr: 0.02, other_lr: 0.01}
  low_rank: {parameterization: low_rank, optimizer: spectron, lr: 0.02, other_lr: 0.01, rank_ratio: 0.25}
training: {sequence_length: 64, batch_tokens: 1024, schedule: {kind: linear, warmup: 0.1, final: 0.0}}
"""


@pytest.fixture
def project(tmp_path: Path, place) -> Path:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "small.yaml").write_text(SWEEP)
    device = "h100" if place.is_gpu else "cpu"
    sharing = "runs_per_gpu: 2\n" if place.is_gpu else ""
    (tmp_path / "runner.yaml").write_text(f"runner: local\ndevice: {device}\nslots: 1\n{sharing}")
    return tmp_path


def test_a_sweep_goes_from_its_file_to_its_report(project, place):
    def scaling(*arguments):
        command = [sys.executable, "-m", "scaling.cli", *arguments]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    scaling("launch", "sweeps/small.yaml", "--runner", "runner.yaml", "--yes")
    rows = read_runs(project / "results" / "small" / "runs.csv")
    assert [row.status for row in rows] == ["completed"] * 4
    assert {row.compiled for row in rows} == {place.is_gpu}
    assert all(row.device.startswith("cuda" if place.is_gpu else "cpu") for row in rows)
    assert json.loads(scaling("status", "sweeps/small.yaml", "--json"))["counts"]["completed"] == 4
    if place.is_gpu:  # long prompts take half a minute on a CPU, where tests/cli times short ones
        measured = json.loads(scaling("compare", "sweeps/small.yaml", "--measure", "--json"))["measured"]
        assert {row["line"] for row in measured} == {"dense", "low_rank@0.25"}
        assert all("NVIDIA" in row["measured_on"] and row["measured_decode_seconds"] > 0 for row in measured)
