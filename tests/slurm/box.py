"""What the tests on the real cluster share: runs of a few seconds, their undisturbed losses, and waiting."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scaling.data.shards import prepare
from scaling.results.launches import launch_name
from scaling.results.store import ENDED, Store
from scaling.run import DataRef, Initialisation, Optimizer, Run, Schedule, Shape
from scaling.runners.runner_file import load_runner
from scaling.runners.scheduler import Order, Work
from scaling.runners.slurm.scheduler import SlurmScheduler
from scaling.runners.worker import WorkList

ROOT = Path(__file__).parent.parent.parent
CLUSTER = Path(__file__).parent / "cluster.sh"
DIR = Path(os.environ.get("CLUSTER_DIR", Path(os.environ.get("TMPDIR", "/tmp")) / "scaling-cluster"))
SMALL = DIR / "small"  # two folders on a tmpfs of 16 MB each, mounted before the nodes start (run.sh)
STEPS = 1600  # three seconds on an idle core, many more beside seven other tests
TEAM_STEPS = 500  # the same on two ranks
SHORT_STEPS = 150  # for runs that nobody disturbs
PATIENCE_SECONDS = 240
QUIET_NODES = "sbatch: {exclude: 'node3,node4'}"  # the other two are for the test that takes a node down
TINY = Run(
    shape=Shape(layers=1, width=16, heads=1, ff_width=48, vocab_size=256),
    parameterization="dense",
    initialisation=Initialisation(embedding_std=0.3, head_std=0.0, hidden_gain=1.0),
    optimizer=Optimizer(name="adamw", lr=0.01, other_lr=0.02, beta1=0.9, beta2=0.95, eps=1e-8),
    schedule=Schedule(kind="linear", warmup_steps=2, final=0.0),
    steps=1,
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
        self.store.path.mkdir(parents=True)
        (self.store.path / "data").symlink_to(reference.path / "data")

    def add(self, runs: Sequence[Run]) -> list[Run]:
        for run in runs:
            self.store.add(run)
        return list(runs)

    def slurm(self, *lines: str, number: int = 1) -> SlurmScheduler:
        path = self.folder / "runner.yaml"
        usual = {"runner": "slurm", "partition": "main", "device": "cpu", "time_limit": "60m"}
        head = [f"{key}: {value}" for key, value in usual.items() if not any(line.startswith(key) for line in lines)]
        path.write_text("\n".join([*head, *(lines or (QUIET_NODES,))]) + "\n")
        return SlurmScheduler(load_runner(path), self.store.path, launch=self.launch(number))

    def launch(self, number: int = 1) -> str:
        """A launch's name, another one for every box."""
        return launch_name("box", number, root=self.folder, store=self.store.path)

    def submit(self, runs: Sequence[Run], *lines: str):
        """Submit what has no result and no job; each run in a task of its own."""
        work = [Work(run.id, 1.0, 3600.0) for run in runs if not self.store.has_result(run.id)]
        return self.slurm(*lines).submit(work, self.order)

    @property
    def order(self) -> Order:
        """What a launch on this store asks for."""
        return Order((), self.folder / "worklist.json", self.corpus_hash, "none")

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
        """Until every run has its result and the worker has logged the end."""
        wait_until(lambda: all(map(self.ended, runs)), "every run has a result", self.report)

    def ended(self, run: Run) -> bool:
        return self.store.has_result(run.id) and "completed" in self.endings(run)

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
        return endings(self.store, run.id)

    def report(self) -> str:
        logs = sorted((self.store.path / "launches").glob("*/*_log.*"))
        queue = slurm_command("squeue", "-a", "-t", "all")
        return "\n".join([queue, *(f"--- {p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in logs)])


def endings(store: Store, run_id: str) -> list[str | None]:
    """The last event of every attempt of a run; None where its worker was killed."""
    ends = []
    for path in sorted((store.folder(run_id) / "attempts").glob("????.jsonl")):
        events = []
        for line in path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # cut
                events.append(json.loads(line).get("event"))
        ends.append(next((event for event in reversed(events) if event in ENDED), None))
    return ends


def write_corpus(path: Path) -> None:
    """A thousand lines of words, the same at every call."""
    words = random.Random(0).choices(["low", "rank", "loss", "law", "=", "0", "of"], k=100_000)
    texts = [" ".join(words[start : start + 100]) for start in range(0, len(words), 100)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def make_reference(folder: Path, *, steps: Sequence[int]) -> tuple[Store, str, list[Run]]:
    """A store with runs that differ in their seed, trained here by two workers and never disturbed; cheap when there.

    Args:
        folder: where the store and its corpus go.
        steps: of each run.

    Returns:
        The store, the hash of its corpus, and the runs.
    """
    store, corpus = Store(folder / "reference"), folder / "corpus.jsonl"
    if not corpus.exists():
        write_corpus(corpus)
    store.path.mkdir(exist_ok=True)
    ref = DataRef(corpus=str(corpus), tokenizer="bytes", validation_tokens=4096)
    data = prepare(ref, root=folder, store=store.path)
    runs = [dataclasses.replace(TINY, data=ref, steps=count, seed=seed) for seed, count in enumerate(steps)]
    for run in runs:
        store.add(run)
    if not all(store.has_result(run.id) for run in runs):
        worklist = WorkList.of([run.id for run in runs], store, corpus_hash=data.hash, keep="none")
        path = worklist.write(folder / "worklist.json")
        command = [sys.executable, "-P", "-m", "scaling.runners.program", "--store", store.path, "--runs", path]
        workers = [subprocess.Popen([*command, "--follow"]) for _ in range(2)]
        assert [worker.wait() for worker in workers] == [0, 0]
    return store, data.hash, runs


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
