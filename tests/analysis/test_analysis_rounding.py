"""An answer does not rest on the last bits of the losses, which differ between kinds of CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.predictions import predict
from scaling.analysis.settings import settings_of
from scaling.analysis.study import Study, study_rows
from scaling.rows import RunRow, read_runs
from scaling.sweeps.schema import load_sweep

TABLE = Path(__file__).parents[2] / "results" / "rank-study" / "runs.csv"
LINES = ("dense", "low_rank@0.125", "low_rank@0.25")


def numbers(study: Study) -> dict[str, list[float]]:
    """Everything with an interval, by what it is of."""
    found: dict[str, list[float]] = {}
    for line in study.lines:
        found[line.name] = [end for interval in line.law.intervals.values() for end in interval]
        predicted = predict(line, 6.3e13)
        found[f"prediction {line.name}"] = [predicted.loss, *predicted.intervals["loss"], *predicted.intervals["N"]]
    for one in study.comparisons:
        found[f"multiplier {one.line.name}"] = [*one.joint.headline.interval, *one.joint.verdict.band.lower]
    found["p-values"] = [test.p_value for test in study.joint.tests]
    return found


def rows(seed: int) -> list[RunRow]:
    """The rank study with its losses moved by about 1e-12 of themselves; seed 0: as they are. E ends at zero in all of
    its laws, on the bound or a rounding error beside it.
    """
    noise = np.random.default_rng(seed)
    own = [row for row in read_runs(TABLE) if row.line in LINES and row.loss]
    return [replace(row, loss=row.loss * (1 + 1e-12 * (seed > 0) * noise.normal())) for row in own]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_last_bits_of_losses_move_no_interval(seed: int) -> None:
    settings = settings_of(load_sweep(TABLE.parents[2] / "sweeps" / "rank-study.yaml"))
    settings = replace(settings, bootstrap=200)
    expected, moved = (numbers(study_rows(rows(n), settings=settings)) for n in (0, seed))
    for name, values in expected.items():
        assert moved[name] == pytest.approx(values, rel=1e-3, abs=1e-6), name
