"""What the tests on the real cluster share: runs of a few seconds, their undisturbed losses, and waiting."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scaling.results.store import ENDED, Store
from scaling.run import DataRef, Initialisation, Optimizer, Run, Schedule, Shape
from scaling.runners.arrays import Work
from scaling.runners.profile import load_profile
from scaling.runners.slurm import Slurm

ROOT = Path(__file__).parent.parent.parent
CLUSTER = Path(__file__).parent / "cluster.sh"
DIR = Path(os.environ.get("CLUSTER_DIR", Path(os.environ.get("TMPDIR", "/tmp")) / "scaling-cluster"))
SMALL = DIR / "small"  # a tmpfs of 16 MB, mounted before the nodes start (run.sh)
STEPS = 1200  # a few seconds on one core: long enough to be disturbed in the middle
PATIENCE_SECONDS = 240
QUIET_NODES = "sbatch: {exclude: 'node3,node4'}"  # the other two are for the test that takes a node down
TINY = Run(
    shape=Shape(layers=1, width=16, heads=1, ff_width=48, vocab_size=256),
    parameterization="dense",
    initialisation=Initialisation(embedding_std=0.3, head_std=0.0, hidden_gain=1.0),
    optimizer=Optimizer(name="adamw", lr=0.01, other_lr=0.02, beta1=0.9, beta2=0.95, eps=1e-8),
    schedule=Schedule(kind="linear", warmup_steps=2, final=0.0),
    steps=STEPS,
    batch_tokens=128,
    sequence_length=64,
    seed=0,
    data=DataRef(corpus="", tokenizer="bytes", validation_tokens=4096),
)


class Box:
    """One store on the cluster, with runs that have an undisturbed twin in the reference store."""

    def __init__(self, folder: Path, reference: Store, corpus_hash: str) -> None:
        self.folder, self.reference, self.corpus_hash = folder, reference, corpus_hash
        self.store = Store(folder / "store of 'o; $(hara)'")
        self.store.path.mkdir()
        (self.store.path / "data").symlink_to(reference.path / "data")

    def add(self, runs: Sequence[Run]) -> list[Run]:
        for run in runs:
            self.store.add(run)
        return list(runs)

    def slurm(self, *lines: str, launch: str = "box-1-abcd") -> Slurm:
        path = self.folder / "runner.yaml"
        head = ["runner: slurm", "partition: main", "device: cpu", "time_limit: 60m"]
        path.write_text("\n".join([*head, *(lines or (QUIET_NODES,))]) + "\n")
        return Slurm(load_profile(path), self.store.path, launch=launch)

    def submit(self, runs: Sequence[Run], *lines: str, launch: str = "box-1-abcd"):
        """Submit what has no result and no job; each run in a task of its own."""
        work = [Work(run.id, 1.0, 3600.0) for run in runs if not self.store.has_result(run.id)]
        return self.slurm(*lines, launch=launch).submit(work, corpus_hash=self.corpus_hash, keep="none")

    def step(self, run: Run) -> int:
        newest = self.store.newest(run.id)
        return newest.last_record().get("step", 0) if newest else 0

    def wait_for_training(self, run: Run, *, attempt: int = 1) -> None:
        """Until attempt `attempt` (or a later one) has made steps."""

        def trains() -> bool:
            newest = self.store.newest(run.id)
            return newest is not None and newest.number >= attempt and newest.last_record().get("step", 0) > 0

        wait_until(trains, f"attempt {attempt} of {run.id} trains")
        assert not self.store.has_result(run.id), "the run ended before it could be disturbed"

    def wait_for_results(self, runs: Sequence[Run]) -> None:
        wait_until(lambda: all(self.store.has_result(run.id) for run in runs), "every run has a result", self.report)

    def check(self, runs: Sequence[Run]) -> None:
        """Every run completed once, with the loss of an undisturbed local run, bit for bit."""
        for run in runs:
            result, expected = self.store.result(run.id), self.reference.result(run.id)
            assert result.status == "completed"
            assert result.loss_nats == expected.loss_nats, f"{run.id}: not the loss of an undisturbed run"
            assert result.steps == expected.steps
            assert self.endings(run).count("completed") == 1

    def endings(self, run: Run) -> list[str | None]:
        """The last event of every attempt; None where its worker was killed."""
        found = []
        for path in sorted((self.store.folder(run.id) / "attempts").glob("????.jsonl")):
            events = [json.loads(line).get("event") for line in path.read_text().splitlines() if line.endswith("}")]
            found.append(next((event for event in reversed(events) if event in ENDED), None))
        return found

    def report(self) -> str:
        logs = sorted((self.store.path / "launches").glob("*/*_log.*"))
        queue = slurm_command("squeue", "-a", "-t", "all")
        return "\n".join([queue, *(f"--- {p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in logs)])


def slurm_command(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_until(
    condition: Callable[[], bool], what: str, report: Callable[[], str] | None = None, seconds: float = PATIENCE_SECONDS
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {seconds:.0f} s: {what}\n{report() if report else ''}")
        time.sleep(0.1)


def states(job_id: str) -> list[str]:
    """The states squeue lists for a job's elements; empty when the job is over and forgotten."""
    answer = subprocess.run(
        ["squeue", "-h", "-r", "-o", "%T", "-j", job_id], capture_output=True, text=True, check=False
    )
    return answer.stdout.split()
