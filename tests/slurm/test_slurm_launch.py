"""`scaling launch --runner` as a researcher types it, on the real cluster."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from box import slurm_command, wait_until

pytestmark = pytest.mark.slurm

SWEEP = """
sweep: tiny
question: Does one command do it on a cluster?
data: {corpus: corpus.jsonl, validation_tokens: 4k}
grid:
  kind: tokens_per_param
  multiples: [4, 8]
  ladder: [{layers: 1, width: 8, heads: 1, ff_width: 24}, {layers: 1, width: 16, heads: 1, ff_width: 48}]
families: {dense: {parameterization: dense, optimizer: adamw, lr: 0.01}}
training: {sequence_length: 64, batch_tokens: 256, keep: none}
analysis: {bootstrap: 20}
"""
BRANCHES = """
sweep: tiny
question: Do branches of a trunk survive a cluster?
data: {corpus: corpus.jsonl, validation_tokens: 4k}
grid:
  kind: tokens_per_param
  multiples: [20, 40, 80]
  ladder: [{layers: 1, width: 8, heads: 1, ff_width: 24}, {layers: 1, width: 16, heads: 1, ff_width: 48}]
families: {dense: {parameterization: dense, optimizer: adamw, lr: 0.01}}
training:
  sequence_length: 64
  batch_tokens: 256
  schedule: {kind: wsd, warmup_steps: 10, decay: 0.2, final: 0.0}
analysis: {bootstrap: 20}
"""
RUNNER = """
runner: slurm
partition: main
device: cpu
time_limit: 30m
slots: 2
pack: {target: 1h}
resources: [{cpus: 1}]
sbatch: {exclude: "node3,node4", comment: "o'hara; $(touch owned) #1"}
"""


@pytest.fixture
def project(tmp_path: Path, shared: Path, reference) -> Path:
    root = tmp_path / "a project; 'x'"
    (root / "sweeps").mkdir(parents=True)
    shutil.copy(shared / "corpus.jsonl", root)
    (root / "sweeps" / "tiny.yaml").write_text(SWEEP)
    (root / "slurm.yaml").write_text(RUNNER)
    return root


def scaling(project: Path, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scaling.cli", verb, str(project / "sweeps" / "tiny.yaml"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=project)


def test_one_command_trains_and_the_dependent_job_reports(project: Path) -> None:
    runner = ("--runner", str(project / "slurm.yaml"))
    dry = scaling(project, "launch", *runner, "--dry-run", "--json")
    [script] = json.loads(dry.stdout)["scripts"]
    launched = scaling(project, "launch", *runner, "--yes", "--json")
    assert launched.returncode == 0, launched.stderr
    document = json.loads(launched.stdout)
    assert (document["submitted"], document["skipped"], len(document["jobs"])) == (4, 0, 2)
    array, after = document["jobs"]
    assert script in slurm_command("scontrol", "write", "batch_script", array, "-")
    assert "Comment=o'hara; $(touch owned) #1" in slurm_command("scontrol", "show", "job", array)
    again = json.loads(scaling(project, "launch", *runner, "--yes", "--json").stdout)
    assert (again["submitted"], again["jobs"]) == (0, [])
    counts = json.loads(scaling(project, "status", "--json").stdout)["counts"]
    assert counts["queued"] + counts["running"] + counts["completed"] == 4
    wait_until(lambda: not slurm_command("squeue", "-h", "-o", "%A").split().count(after), "the dependent job is done")
    status = json.loads(scaling(project, "status", "--json").stdout)
    assert status["counts"]["completed"] == 4, status
    with (project / "results" / "tiny" / "runs.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["completed"] * 4
    assert not list(project.rglob("owned"))


def test_cancel_and_launch_again(project: Path) -> None:
    runner = ("--runner", str(project / "slurm.yaml"))
    assert scaling(project, "launch", *runner, "--yes").returncode == 0
    cancelled = scaling(project, "cancel")
    assert "cancelled 2 jobs" in cancelled.stderr
    wait_until(lambda: "tiny" not in slurm_command("squeue", "-h", "-o", "%j %k"), "the jobs are gone", seconds=60)
    assert scaling(project, "status").stderr.startswith("next: scaling launch")
    waited = scaling(project, "launch", *runner, "--yes", "--wait")
    status = scaling(project, "status")
    assert "4 completed" in status.stdout, waited.stderr
    assert not status.stderr, "nothing is left to do"


@pytest.mark.extra
def test_branches_of_a_trunk_end_as_on_one_machine(project: Path) -> None:
    (project / "sweeps" / "tiny.yaml").write_text(BRANCHES)
    twin = project.with_name("alone")
    shutil.copytree(project, twin)
    done = scaling(project, "launch", "--runner", str(project / "slurm.yaml"), "--yes", "--wait")
    assert done.returncode == 0, done.stderr
    assert scaling(twin, "launch", "--yes").returncode == 0
    here, there = (json.loads(scaling(root, "status", "--json").stdout)["runs"] for root in (project, twin))
    assert len(here) == 6
    assert {run["id"]: run["loss"] for run in here} == {run["id"]: run["loss"] for run in there}
    assert None not in {run["loss"] for run in here}
    with (project / "results" / "tiny" / "runs.csv").open() as file:
        assert len({row["trunk"] for row in csv.DictReader(file)}) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("partition: gpus", "no such partition"),
        ("partition: short\ntime_limit: 2h", "the time limit is beyond that of partition short"),
        ("partition: main\nresources: [{gpus: 4}]", "SLURM would refuse these jobs"),
        ("partition: main\nsbatch: {array: 0-3}", "this option is not passed through"),
    ],
)
def test_what_the_cluster_would_refuse_is_said_first(project: Path, lines: str, message: str) -> None:
    limit = "" if "time_limit" in lines else "time_limit: 5m\n"
    (project / "slurm.yaml").write_text(f"runner: slurm\ndevice: cpu\n{limit}{lines}\n")
    refused = scaling(project, "launch", "--runner", str(project / "slurm.yaml"), "--yes")
    assert refused.returncode == 1
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(project.rglob("*_submission.sh"))


def test_doctor_probes_a_node(project: Path) -> None:
    command = [sys.executable, "-m", "scaling.cli", "doctor", "--runner", str(project / "slurm.yaml"), "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=project)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = json.loads(answer.stdout)["cluster"]
    assert found["problem"] is None
    assert found["accounting"] == "answers"
    assert found["nodes submit"] is True
