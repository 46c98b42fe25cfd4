"""Simulated studies of every kind, warnings as errors: one line or many, one budget or many, replicates or none, lines
that share no compute, all diverged but one. Every document is finite JSON and every question has a sentence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from scaling.analysis.settings import Settings
from scaling.analysis.study import Study, study_rows
from scaling.errors import ScalingError
from scaling.report.documents import comparisons_json, fits_json, losses_json, predictions_json
from scaling.report.summary import answer
from scaling.report.tables import study_tables
from scaling.report.terminal import compare_text
from scaling.rows import RunRow
from scaling.run import Shape
from scaling.sweeps.counting import count, flops_6nd, matrix_ranks, training_flops

MOST = 400  # of them in make test-long
STUDIES = min(MOST, int(os.environ.get("SCALING_FUZZ_CASES", "3")))
LAWS = ("chinchilla", "chinchilla", "chinchilla", "kaplan", "skaling", "power", "rank", "rank_power", "joint")
SIZES = ((1, 8), (1, 16), (2, 16), (2, 24), (2, 32), (3, 48), (4, 64))
SHAPES = [Shape(layers, width, 1, 8 * round(width / 3), 256) for layers, width in SIZES]


def simulated(rng: np.random.Generator) -> list[RunRow]:
    """A table of ours, of any design that a sweep or its failures can leave."""
    budgets = np.geomspace(1e10, 10 ** rng.uniform(10.5, 13), int(rng.integers(1, 6)))
    ratios = [None, *rng.choice([0.125, 0.25, 0.5, 0.75], size=int(rng.integers(0, 4)), replace=False)]
    noise, tuned = 10 ** rng.uniform(-4, -1), rng.random() < 0.2
    lost = rng.choice([0.0, 0.0, 0.1, 0.6])
    rows = []
    for ratio in ratios:
        own = budgets[rng.random(len(budgets)) < 0.8] if rng.random() < 0.4 else budgets
        for budget in own:
            for shape in rng.choice(len(SHAPES), size=int(rng.integers(1, 7)), replace=False):
                for seed in range(int(rng.choice([1, 1, 1, 3]))):
                    for lr in (0.01, 0.02, 0.04)[: int(rng.integers(2, 4)) if tuned else 1]:
                        rows.append(_row(rng, ratio, SHAPES[shape], float(budget), seed, lr, noise, lost))
    if rng.random() < 0.08:
        rows = [row if n == 0 else _diverged(row) for n, row in enumerate(rows)]
    return rows


def _diverged(row: RunRow) -> RunRow:
    return replace(row, status="diverged", loss=None, loss_per_byte=None)


def _row(rng, ratio, shape: Shape, budget: float, seed: int, lr: float, noise: float, lost: float) -> RunRow:
    ranks = None if ratio is None else matrix_ranks(shape, float(ratio))
    counts = count(shape, ranks)
    tokens = max(256, round(budget / training_flops(shape, ranks, sequence_length=128, tokens=1) / 256) * 256)
    line = "dense" if ratio is None else f"low_rank@{ratio:g}"
    loss = 0.9 + 10.0 / counts.params_matmul**0.3 + 140.0 / tokens**0.44 + 0.05 * np.log2(lr / 0.02) ** 2
    row = RunRow(
        id=f"{line} {budget:g} {shape.width} {shape.layers} {seed} {lr}", family=line.split("@")[0], line=line,
        parameterization=line.split("@")[0], optimizer="muon" if ratio is None else "spectron",
        rank_ratio=None if ratio is None else float(ratio), layers=shape.layers, width=shape.width, heads=1, kv_heads=1,
        tied=False, ff_width=shape.ff_width, vocab_size=256, params_total=counts.params_total,
        params_non_embedding=counts.params_non_embedding, params_matmul=counts.params_matmul, tokens=tokens,
        steps=tokens // 256, batch_tokens=256, sequence_length=128, budget=budget,
        flops=training_flops(shape, ranks, sequence_length=128, tokens=tokens),
        flops_6nd=flops_6nd(counts.params_total, tokens), optimizer_flops=0.0, lr=lr, seed=seed,
        cell=f"{line}/{budget:g}/d{shape.width}L{shape.layers}", status="completed",
        loss=float(loss * np.exp(noise * rng.normal())), loss_per_byte=float(loss), device_seconds=budget / 1e10,
        **{f"rank_{name}": rank for name, rank in (ranks or {}).items()},
    )  # fmt: skip
    return _diverged(row) if rng.random() < lost else row


def sentences(study: Study) -> Iterator[str]:
    yield from answer(study)
    yield compare_text(study)
    places = predictions_json(study, [1e13]), losses_json(study, 1e5, 1e7)
    for document in (fits_json(study), comparisons_json(study), *places):
        yield json.dumps(document, allow_nan=False)
    for table in study_tables(study):
        yield table.markdown()


@pytest.mark.parametrize("number", range(STUDIES))
def test_a_study_of_any_design_says_what_can_be_said(number: int) -> None:
    rng = np.random.default_rng(number)
    settings = Settings(
        law=str(rng.choice(LAWS)),
        delta=rng.choice([1e-3, 1e-2]) if rng.random() < 0.3 else "auto",
        params_column="params_matmul",
        convention="exact",
        bootstrap=int(rng.choice([0, 20])),
        predict=(1e12,),
    )
    try:
        said = list(sentences(study_rows(simulated(rng), settings=settings)))
    except ScalingError as error:
        said = [str(error)]
    assert all(said)
    assert not any("nan" in text.lower().split() for text in said)
