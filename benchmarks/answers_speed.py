"""CPU and wall seconds of `fit`, `compare` and `report`, this code beside another checkout, in one run.

    python benchmarks/answers_speed.py --beside ../other [--rows 20000] [--out results/benchmarks/answers_speed.md]

Tables of one law with 1 % noise: 240 points (six budgets), and many rows over 40 budgets, with 1,000 draws; `report` is
of a table with two families, of the quickstart, and of 4,004 runs (the quickstart with 91 seeds of every run, .4 %
apart); `compare` is of the quickstart. Every command is a process of its own, once; CPU seconds are user + system.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from scaling.rows import read_runs, write_runs

HERE = Path(__file__).resolve().parents[1]


def write_table(path: Path, rows: int, budgets: int, families: int) -> Path:
    """A CSV of parameters, tokens, FLOPs and loss, and of families where there are several."""
    rng = np.random.default_rng(0)
    compute = np.repeat(np.geomspace(1e18, 1e21, budgets), rows // budgets // families)
    params = 0.1 * np.sqrt(compute) * np.exp(rng.uniform(-1.2, 1.2, len(compute)))
    tokens = compute / (6 * params)
    lines = ["params,tokens,flops,loss" + (",family" if families > 1 else "")]
    for family in range(families):
        loss = 1.8 + (480 + 40 * family) * params**-0.35 + 2100 * tokens**-0.37
        loss = loss * np.exp(0.01 * rng.normal(size=len(loss)))
        columns = zip(params, tokens, compute, loss, strict=True)
        tail = f",family {family}" if families > 1 else ""
        lines += [",".join(f"{value:.8g}" for value in row) + tail for row in columns]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_seeds(folder: Path, seeds: int) -> Path:
    """The quickstart's table with more seeds of every run."""
    rows, rng = read_runs(HERE / "results" / "quickstart" / "runs.csv"), np.random.default_rng(0)
    folder.mkdir()
    many = []
    for more in range(seeds):
        noise = 0.004 * (more > 0) * rng.normal(size=len(rows))
        for row, error in zip(rows, noise.tolist(), strict=True):
            own = {"id": f"{more:03d}{row.id[3:]}", "seed": 100 * (row.seed or 0) + more}
            many.append(replace(row, loss=row.loss and row.loss * (1 + error), **own))
    write_runs(folder / "runs.csv", many)
    return folder


def seconds(checkout: Path, *arguments: str) -> tuple[float, float]:
    """CPU and wall seconds of one command with the package of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "scaling.cli", *arguments], check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = ["| what | beside, CPU s | this code, CPU s | beside, wall s | this code, wall s | aim, s |"]
    lines.append("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        small = write_table(Path(folder) / "small.csv", 240, 6, 1)
        large = write_table(Path(folder) / "large.csv", options.rows, 40, 1)
        two = write_table(Path(folder) / "two.csv", options.rows, 40, 2)
        quickstart = write_seeds(Path(folder) / "quickstart", 1)
        seeds = write_seeds(Path(folder) / "seeds", 91)
        served = ("compare", str(quickstart), "--served", "1B", "--device", "h100")
        cases = [
            ("`fit`, 240 points", ("fit", str(small)), "2.5 CPU"),
            (f"`fit`, {options.rows:,} rows", ("fit", str(large)), "15 CPU"),
            ("`compare`, quickstart", ("compare", str(quickstart)), "3"),
            ("`compare --served`, quickstart", served, "3"),
            ("`report`, quickstart", ("report", str(quickstart)), "8"),
            ("`report`, 4,004 runs", ("report", str(seeds)), "30"),
            (f"`report`, {options.rows:,} rows, two families", ("report", str(two)), "20 CPU"),
        ]
        for name, command, aim in cases:
            other, own = (seconds(checkout, *command) for checkout in (options.beside.resolve(), HERE))
            lines.append(f"| {name} | {other[0]:.1f} | {own[0]:.1f} | {other[1]:.1f} | {own[1]:.1f} | {aim} |")
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text(
            "# Seconds of `fit`, `compare` and `report`\n\n`python benchmarks/answers_speed.py`: 1,000 draws, one "
            + "thread of each process, both sides in one run.\n\n"
            + "\n".join(lines)
            + "\n"
        )


if __name__ == "__main__":
    main()
