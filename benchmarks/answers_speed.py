"""CPU seconds of `fit`, `compare` and `report`, this code beside another checkout, in one run.

    python benchmarks/answers_speed.py --beside ../other [--rows 20000] [--out results/benchmarks/answers_speed.md]

Tables of one law with 1 % noise: 240 points (six budgets), and many rows over 40 budgets, with 1,000 draws; `report` is
of a table with two families, `compare` of the quickstart. Every command is a process of its own, once; CPU seconds are
user + system.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

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


def cpu_seconds(checkout: Path, *arguments: str) -> float:
    """Of one command with the package of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "scaling.cli", *arguments], check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--skip-report", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = ["| what | beside, s | this code, s | aim, s |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        small = write_table(Path(folder) / "small.csv", 240, 6, 1)
        large = write_table(Path(folder) / "large.csv", options.rows, 40, 1)
        two = write_table(Path(folder) / "two.csv", options.rows, 40, 2)
        cases = [("`fit`, 240 points", ("fit", str(small)), "2.5")]
        quickstart = str(HERE / "results" / "quickstart")
        cases.append(("`compare`, quickstart", ("compare", quickstart), "3"))
        cases.append(
            ("`compare --served`, quickstart", ("compare", quickstart, "--served", "1B", "--device", "h100"), "3")
        )
        cases.append((f"`fit`, {options.rows:,} rows", ("fit", str(large)), "15"))
        if not options.skip_report:
            cases.append((f"`report`, {options.rows:,} rows, two families", ("report", str(two)), "20"))
        for name, command, aim in cases:
            other, own = (cpu_seconds(checkout, *command) for checkout in (options.beside.resolve(), HERE))
            lines.append(f"| {name} | {other:.1f} | {own:.1f} | {aim} |")
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text(
            "# CPU seconds of `fit`, `compare` and `report`\n\n`python benchmarks/answers_speed.py`: 1,000 draws, one "
            + "thread, both sides in one run.\n\n"
            + "\n".join(lines)
            + "\n"
        )


if __name__ == "__main__":
    main()
