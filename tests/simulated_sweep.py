"""Fixtures: a runs table as a sweep writes it, simulated from known laws: three lines, three budgets, five shapes each,
replicates, failures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from scaling.analysis.settings import Settings
from scaling.analysis.study import Study, study_rows
from scaling.rows import RunRow
from scaling.run import Shape
from scaling.sweeps.counting import count, flops_6nd, matrix_ranks, training_flops

BUDGETS = (2e10, 6e10, 2e11)
SEQUENCE = 128
SEED_SD = 0.02
# Close to what byte-level models of this size do on source code: dense N_opt 28k and loss 1.76 at 2e11 FLOPs.
LAWS = {
    "dense": {"E": 0.9, "A": 10.3, "alpha": 0.292, "B": 140.0, "beta": 0.4375},
    "low_rank@0.25": {"E": 0.9, "A": 11.5, "alpha": 0.292, "B": 140.0, "beta": 0.4375},
    "low_rank@0.5": {"E": 0.9, "A": 10.9, "alpha": 0.292, "B": 140.0, "beta": 0.4375},
}
LADDER = [
    (1, 8, 1),
    (1, 12, 1),
    (1, 16, 1),
    (2, 16, 1),
    (2, 20, 1),
    (2, 24, 1),
    (2, 32, 1),
    (2, 40, 1),
    (3, 48, 2),
    (3, 56, 2),
]
LADDER += [(3, 64, 2), (4, 72, 2), (4, 80, 2), (5, 96, 3), (5, 112, 4), (6, 128, 4)]
CENTRES = {2e10: 7.5e3, 6e10: 14e3, 2e11: 28e3}


def true_loss(line: str, params: float, tokens: float) -> float:
    law = LAWS[line]
    return law["E"] + law["A"] / params ** law["alpha"] + law["B"] / tokens ** law["beta"]


def simulated_runs(noise: float = SEED_SD, shift: dict[str, float] | None = None, seed: int = 7) -> list[RunRow]:
    """Rows of a runs.csv; `shift` adds nats to every loss of a line."""
    random = np.random.default_rng(seed)
    rows = []
    for line, ratio in (("dense", None), ("low_rank@0.25", 0.25), ("low_rank@0.5", 0.5)):
        budgets = BUDGETS[1:] if ratio == 0.5 else BUDGETS
        for budget in budgets:
            for n, shape in enumerate(_around(CENTRES[budget], ratio)):
                seeds = (0, 1, 2) if budget == budgets[0] and n == 2 else (0,)
                for s in seeds:
                    row = _row(line, ratio, shape, budget, s)
                    loss = true_loss(line, row.params_matmul, row.tokens) + (shift or {}).get(line, 0.0)
                    loss = round(loss + noise * float(random.normal()), 6)
                    rows.append(replace(row, loss=loss, loss_per_byte=loss))
    return rows


def _ranks(shape: Shape, ratio: float | None) -> dict[str, int] | None:
    return None if ratio is None else matrix_ranks(shape, ratio)


def _around(centre: float, ratio: float | None) -> list[Shape]:
    """The five shapes nearest to .33, .58, 1, 1.7, 3 times the centre."""
    shapes = [Shape(n, d, h, 8 * round(d / 3), 256) for n, d, h in LADDER]
    size = {s: math.log(count(s, _ranks(s, ratio)).params_matmul) for s in shapes}
    chosen: list[Shape] = []
    for factor in (0.33, 0.58, 1.0, 1.75, 3.0):
        left = [s for s in shapes if s not in chosen]
        chosen.append(min(left, key=lambda s: abs(size[s] - math.log(factor * centre))))
    return sorted(chosen, key=lambda s: size[s])


def _row(line: str, ratio: float | None, shape: Shape, budget: float, seed: int) -> RunRow:
    ranks = _ranks(shape, ratio)
    counts = count(shape, ranks)
    per_token = training_flops(shape, ranks, sequence_length=SEQUENCE, tokens=1)
    batch = 128 * min(max(round(4 * math.sqrt(budget / per_token / 8e5)), 2), 16)
    steps = round(budget / per_token / batch)
    tokens = steps * batch
    values = {
        "id": hashlib.sha256(repr((line, shape, budget, seed)).encode()).hexdigest()[:16],
        "family": line.split("@")[0],
        "line": line,
        "parameterization": line.split("@")[0],
        "optimizer": "muon" if ratio is None else "spectron",
        "rank_ratio": ratio,
        "layers": shape.layers,
        "width": shape.width,
        "heads": shape.heads,
        "kv_heads": shape.heads,
        "tied": False,
        "ff_width": shape.ff_width,
        "vocab_size": shape.vocab_size,
        "params_total": counts.params_total,
        "params_non_embedding": counts.params_non_embedding,
        "params_matmul": counts.params_matmul,
        "tokens": tokens,
        "steps": steps,
        "batch_tokens": batch,
        "sequence_length": SEQUENCE,
        "budget": budget,
        "flops": per_token * tokens,
        "flops_6nd": flops_6nd(counts.params_total, tokens),
        "optimizer_flops": 0.3 * per_token * tokens,
        "lr": 0.02 if ratio is None else 0.05,
        "seed": seed,
        "cell": f"{line} {budget:g} {shape.layers}x{shape.width}",
        "status": "completed",
        **{f"rank_{name}": rank for name, rank in (ranks or {}).items()},
        "loss_se": 0.008,
        "device_seconds": per_token * tokens / (12e9 if ratio is None else 7e9),
        "epochs": tokens / 56e6,
        "device": "cpu",
        "torch_version": "2.13.0",
        "corpus_hash": "c0ffee",
        "loss_spikes": 0,
    }
    return RunRow(**values)


@pytest.fixture(scope="session")
def simulate() -> Callable[..., list[RunRow]]:
    return simulated_runs


@pytest.fixture(scope="session")
def law_of() -> dict[str, dict[str, float]]:
    return LAWS


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(
        params_column="params_matmul", convention="exact", bootstrap=200, predict=(1e12,), devices=("h200",)
    )


@pytest.fixture(scope="session")
def study(settings: Settings) -> Study:
    """The simulated sweep studied once for all tests that only look."""
    return study_rows(simulated_runs(), settings=settings)
