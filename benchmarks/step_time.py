"""The training step of two versions of the code, on the shapes and batches of the quickstart, in one run.

    git worktree add /tmp/old 7d7f836
    OMP_NUM_THREADS=1 python benchmarks/step_time.py --old /tmp/old

Each version has a process of its own; they take turns, a few steps each, on one core. Times are CPU seconds of the
thread, the least of all turns, so that what other processes do to caches and clocks is left out. Beside a whole step:
the update alone, and a step whose norms are measured. The share of measuring is that over the steps of a run, of which
`training.stability.is_measured` says which are measured; the weights of the mean are the steps of the sweep.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
KINDS = ("step", "update", "measured")


class Side:
    """The process of one version."""

    def __init__(self, code: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", __file__, "--serve"]
        self.process = subprocess.Popen(
            command, cwd=code, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.cases = self.ask({})

    def ask(self, request: dict) -> list:
        """The answer to one line."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def serve() -> None:
    """Answer requests: the cases, or the CPU seconds of one step of a case."""
    import numpy as np

    from scaling.data.shards import TokenData
    from scaling.sweeps.grids import plan
    from scaling.sweeps.schema import load_sweep
    from scaling.training import stability
    from scaling.training.loop import open_device
    from scaling.training.trainer import Trainer

    device, measured_steps = open_device("cpu"), stability.is_measured
    cases: dict[tuple, dict] = {}
    for planned in plan(load_sweep(ROOT / "sweeps" / "quickstart.yaml"), vocab_size=256).runs:
        run = planned.run
        case = cases.setdefault((planned.line, run.shape, run.batch_tokens), {"run": run, "steps": 0, "measured": 0})
        case["steps"] += run.steps
        case["measured"] += sum(measured_steps(step) for step in range(run.steps))
    answer = [
        {"line": line, "width": shape.width, "layers": shape.layers, "batch_tokens": batch}
        | {"steps": case["steps"], "measured": case["measured"]}
        for (line, shape, batch), case in cases.items()
    ]
    tokens = np.random.default_rng(0).integers(0, 256, 2**19).astype(np.uint16)
    trainers: dict[int, Trainer] = {}

    def calls(number: int, kind: str) -> Callable[[], object]:
        if number not in trainers:
            run = replace([*cases.values()][number]["run"], steps=10**9)
            trainers.clear()
            trainers[number] = Trainer(run, TokenData("random", Path(), 256, tokens, {}, {}), device=device)
        trainer = trainers[number]
        trainer.stability.measures = kind == "measured"
        stability.is_measured = lambda step: True
        return (lambda: trainer.optimizers.step(1e-3)) if kind == "update" else trainer.step

    for line in sys.stdin:
        if request := json.loads(line):
            call = calls(request["case"], request["kind"])
            call()  # not timed
            started = time.thread_time()
            for _ in range(request["repeats"]):
                call()
            answer = [(time.thread_time() - started) / request["repeats"]]
        print(json.dumps(answer), flush=True)


def compare(old: Path, *, rounds: int, repeats: int) -> list[dict]:
    """One row for every shape and batch."""
    sides = {"old": Side(old), "new": Side(ROOT)}
    cases = [{key: case[key] for key in ("line", "width", "layers", "batch_tokens")} for case in sides["new"].cases]
    assert cases == [{key: case[key] for key in cases[0]} for case in sides["old"].cases], "not the same runs"
    rows = []
    for number, case in enumerate(sides["new"].cases):
        seconds: dict[tuple[str, str], list[float]] = {}
        for turn in range(rounds):
            for name in sorted(sides, reverse=bool(turn % 2)):
                for kind in KINDS:
                    request = {"case": number, "kind": kind, "repeats": repeats if kind == "step" else repeats // 4}
                    seconds.setdefault((name, kind), []).extend(sides[name].ask(request))
        times = {key: min(values) for key, values in seconds.items()}
        row = case | {f"{name}_{kind}_ms": 1e3 * times[name, kind] for name in sides for kind in KINDS}
        rows.append(row | {"ratio": times["new", "step"] / times["old", "step"]} | shares(case, times))
        print(text_row(rows[-1]), flush=True)
    return rows


def shares(case: dict, times: dict[tuple[str, str], float]) -> dict[str, float]:
    """Of the new code: the update's share of a step, and that of measuring in a run."""
    step = times["new", "step"]
    spent = case["measured"] * max(0.0, times["new", "measured"] - step)
    return {"update_share": times["new", "update"] / step, "measuring_share": spent / (spent + case["steps"] * step)}


COLUMNS = ("line", "width", "layers", "batch_tokens", "steps", "old_step_ms", "new_step_ms", "ratio", "update_share",
           "measuring_share", "old_measured_ms", "new_measured_ms")  # fmt: skip


def text_row(row: dict) -> str:
    """One line of Markdown."""
    cells = (row[name] for name in COLUMNS)
    return f"| {' | '.join(f'{cell:.3g}' if isinstance(cell, float) else str(cell) for cell in cells)} |"


def text(rows: list[dict], old: str) -> str:
    """The whole page."""
    import torch

    total = {name: sum(row["steps"] * row[f"{name}_step_ms"] for row in rows) for name in ("old", "new")}
    mean = {
        name: sum(row["steps"] * row["new_step_ms"] * row[name] for row in rows) / total["new"]
        for name in ("update_share", "measuring_share")
    }
    lines = [
        f"# step_time: a training step on one CPU core, {old} against this commit",
        "",
        f"`python benchmarks/step_time.py --old WORKTREE` ({time.strftime('%Y-%m-%d')}, torch {torch.__version__}): "
        "the quickstart's shapes and batches,",
        "the versions taking turns; CPU milliseconds of one thread, the least of all turns.",
        "",
        f"**All steps of the sweep: new / old {total['new'] / total['old']:.3f}.** Of a new step the update is "
        f"{mean['update_share']:.1%}, and measuring {mean['measuring_share']:.2%} of all time.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
        *map(text_row, rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compare and print, or serve one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="a worktree of the version to compare with")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=12, help="steps of one turn")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "step_time.md")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve()
        return
    head = subprocess.run(["git", "log", "-1", "--format=%h"], cwd=asked.old, capture_output=True, text=True)
    asked.out.write_text(text(compare(asked.old, rounds=asked.rounds, repeats=asked.repeats), head.stdout.strip()))


if __name__ == "__main__":
    main()
