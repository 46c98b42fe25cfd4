"""How fast SLURM is driven, on the cluster in a box: `python benchmarks/slurm.py [submit|packed]`.

submit: `scaling launch` of 1,000 runs in tasks of their own and of 10,000 runs in packed tasks, then `scaling status
--json` of the 10,000, each as a process; calls of `squeue` and `sacct` are counted. The jobs begin in an hour and are
cancelled. packed: one task with 4 slots trains 1,000 runs of about a second; the share of slot time spent in training
steps, from the first step to the last. Needs `tests/slurm/cluster.sh start`; appends to results/benchmarks/slurm.md.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "slurm"))
TABLE = ROOT / "results" / "benchmarks" / "slurm.md"
HEADER = """# SLURM, on the cluster in a box (two cores)

`python benchmarks/slurm.py`. Seconds are wall time, those of the CPU in brackets: where they are far apart, the machine
was busy with other work.

| date | what | measured | aim |
|---|---|---|---|
"""
SWEEP = """
sweep: many
question: How fast?
data: {{corpus: corpus.jsonl, validation_tokens: 4k}}
grid: {{kind: tokens_per_param, multiples: [10], ladder: [{{layers: 1, width: 8, heads: 1, ff_width: 24}}]}}
families: {{dense: {{parameterization: dense, optimizer: adamw, lr: 0.01}}}}
training: {{sequence_length: 64, batch_tokens: 256, keep: none, seeds: [{seeds}]}}
"""
RUNNER = """
runner: slurm
partition: main
device: cpu
time_limit: 30m
sbatch: {begin: now+1hour}
"""
SLOTS, PACKED_RUNS, PACKED_STEPS = 4, 1000, 150


def submit() -> None:
    from box import make_reference

    with tempfile.TemporaryDirectory(prefix="scaling-bench-") as folder:
        root = Path(folder)
        make_reference(root, steps=[])  # for its corpus
        launch(root, 1_000, "")
        record("`scaling launch`, 1,000 runs in 1,000 tasks", launch(root, 1_000, ""), "10 s")
        took = launch(root, 10_000, "pack: {target: 2m}\nslots: 4\n")
        record("`scaling launch`, 10,000 runs from the file to packed arrays", took, "30 s")
        for _ in range(2):
            took = status(root)
        record("`scaling status --json`, 10,000 runs", took, "3 s, one query")
        scaling(root, "cancel", "sweeps/many.yaml")


def launch(root: Path, runs: int, lines: str) -> str:
    """How long one `scaling launch` into an empty store takes."""
    (root / "sweeps").mkdir(exist_ok=True)
    (root / "sweeps" / "many.yaml").write_text(SWEEP.format(seeds=", ".join(map(str, range(runs)))))
    (root / "slurm.yaml").write_text(RUNNER + lines)
    if (root / ".scaling").exists():
        scaling(root, "cancel", "sweeps/many.yaml")
        shutil.rmtree(root / ".scaling")
    document, took = scaling(root, "launch", "sweeps/many.yaml", "--runner", "slurm.yaml", "--yes", "--json")
    assert json.loads(document)["submitted"] == runs
    return took


def status(root: Path) -> str:
    """How long one `scaling status --json` takes, and its calls of SLURM's commands."""
    counted = root / "counted"
    counted.mkdir(exist_ok=True)
    for name in ("squeue", "sacct"):
        real = shutil.which(name)
        (counted / name).write_text(f'#!/bin/sh\necho {name} >>{counted}/calls\nexec {real} "$@"\n')
        (counted / name).chmod(0o755)
    (counted / "calls").write_text("")
    _, took = scaling(root, "status", "sweeps/many.yaml", "--json", path=f"{counted}:{os.environ['PATH']}")
    calls = (counted / "calls").read_text().split()
    return took + ", " + " and ".join(f"{calls.count(name)} {name}" for name in ("squeue", "sacct"))


def scaling(root: Path, *arguments: str, path: str | None = None) -> tuple[str, str]:
    """The command's output, and its seconds: wall (CPU)."""
    environment = os.environ | ({"PATH": path} if path else {})
    command = [sys.executable, "-m", "scaling.cli", *arguments]
    started, cpu = time.perf_counter(), cpu_seconds()
    done = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout, f"{time.perf_counter() - started:.1f} s ({cpu_seconds() - cpu:.1f} s)"


def cpu_seconds() -> float:
    """Of every child so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def packed() -> None:
    from box import Box, make_reference, wait_until

    from scaling.runners.scheduler import Work

    with tempfile.TemporaryDirectory(prefix="scaling-bench-") as folder:
        store, corpus_hash, [run] = make_reference(Path(folder), steps=[PACKED_STEPS])
        box = Box(Path(folder) / "box", store, corpus_hash)
        runs = box.add([dataclasses.replace(run, seed=seed) for seed in range(PACKED_RUNS)])
        slurm = box.slurm(f"slots: {SLOTS}", "pack: {target: 10h}", "resources: [{cpus: 1}]")
        slurm.submit([Work(run.id, 1.0, 1.0) for run in runs], box.order)
        wait_until(lambda: all(box.store.has_result(run.id) for run in runs), "every run", seconds=3600)
        training = sum(box.store.result(run.id).device_seconds for run in runs)
        attempts = [box.store.newest(run.id).metrics_path for run in runs]
        times = [json.loads(line)["time"] for path in attempts for line in path.read_text().splitlines()]
        wall = max(times) - min(times)
    mean = training / len(runs)
    words = f"{training / wall / SLOTS:.0%} of slot time in steps ({mean:.2f} s a run, {wall:.0f} s in all)"
    record(f"{len(runs):,} packed runs on {SLOTS} slots", words, "85 %")


def record(what: str, measured: str, aim: str) -> None:
    row = f"| {time.strftime('%Y-%m-%d')} | {what} | {measured} | {aim} |"
    print(row, flush=True)
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text((TABLE.read_text() if TABLE.exists() else HEADER) + row + "\n")


if __name__ == "__main__":
    from box import DIR

    os.environ["SLURM_CONF"] = str(DIR / "etc" / "slurm.conf")
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in sys.argv[1:] or ("submit", "packed"):
        {"submit": submit, "packed": packed}[name]()
