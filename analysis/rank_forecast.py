"""The rank study's largest budget, predicted before it was trained, and held against what was trained.

    .venv/bin/python analysis/rank_forecast.py make     # before: writes results/rank-study-forecast/forecast.csv
    .venv/bin/python analysis/rank_forecast.py score    # after: prints every prediction beside its outcome

`make` reads results/rank-study-forecast/runs.csv (four budgets) and plans sweeps/rank-study.yaml (five). It predicts,
for every line that has a law, the loss of each planned run of the largest budget (stacked forms, 95 % interval of one
run), the isoFLOP minimum there, and the compute multiplier against dense (M3). `score` finds the same numbers in
results/rank-study/runs.csv. Errors are given in nats (of multipliers in log) and in standard deviations of the
prediction, its half-width over 1.96.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import scaling
from scaling.analysis.predictions import predict, predict_loss

FORECAST, TABLE = Path("results/rank-study-forecast"), Path("results/rank-study/runs.csv")
SWEEP = Path("sweeps/rank-study.yaml")
COLUMNS = ("kind", "line", "shape", "N", "D", "predicted", "low", "high")


def study_of(table: Path) -> scaling.Study:
    """The study of a table of runs, with the settings of its sweep."""
    rows = scaling.read_table(table)
    return scaling.study_rows(rows, settings=scaling.settings_for_table(rows, scaling.Settings()))


def forecast() -> pd.DataFrame:
    """Every prediction, one row each."""
    return pd.DataFrame(list(_forecast()))


def _forecast() -> Iterator[dict[str, object]]:
    study, plan = study_of(FORECAST / "runs.csv"), scaling.Project.open(SWEEP).plan(None).plan
    largest = max(plan.sweep.grid.budgets)
    cells = {(run.line, run.cell.shape): run for run in plan.runs if run.budget == largest}
    lines = {line.name: line for line in study.lines if line.frontier is not None}
    for (name, shape), run in cells.items():
        if name in lines:
            params, tokens = run.counts.column(plan.params_column), run.run.tokens
            said = predict_loss(lines[name], params, tokens)
            yield _row("run", name, shape, params, tokens, said.loss, *said.intervals["loss_of_run"])
    for name, line in lines.items():
        best = predict(line, largest)
        yield _row("minimum", name, "", best.params, best.tokens, best.loss, *best.intervals["loss"])
    for compared in study.comparisons:
        if compared.joint is not None and compared.line.name in lines:
            at = compared.joint.multiplier(largest)
            yield _row("multiplier", compared.line.name, "", None, None, at.value, *at.interval)


def _row(*values: object) -> dict[str, object]:
    return dict(zip(COLUMNS, values, strict=True))


def score(predictions: pd.DataFrame) -> pd.DataFrame:
    """Every prediction whose outcome is found, with its error, also in standard deviations."""
    study = study_of(TABLE)
    rows = []
    for said in predictions.to_dict("records"):
        found = _outcome(study, said)
        if found is None:
            continue
        logs = said["kind"] == "multiplier"
        value, low, high, outcome = (
            math.log(x) if logs else x for x in (said["predicted"], said["low"], said["high"], found)
        )
        error, sigma = outcome - value, (high - low) / 2 / 1.96
        rows.append({**said, "outcome": found, "error": error, "z": error / sigma, "inside": low <= outcome <= high})
    return pd.DataFrame(rows)


def _outcome(study: scaling.Study, said: Mapping[Hashable, Any]) -> float | None:
    """What was found in place of one prediction: a loss of seed 0, the loss of an isoFLOP minimum, or a multiplier."""
    name, largest = said["line"], study.reference.budgets[-1]
    if said["kind"] == "run":
        losses = (row.loss for row in study.rows if (row.line, row.seed) == (name, 0) and _is_cell(row, said))
        return next((loss for loss in losses if loss is not None), None)
    if said["kind"] == "minimum":
        line = next(line for line in study.lines if line.name == name)
        minima = line.isoflop.minima if line.isoflop else ()
        return next((one.loss for one in minima if one.budget == largest and one.bracketed), None)
    joint = next(one.joint for one in study.comparisons if one.line.name == name)
    return None if joint is None else joint.multiplier(largest).value


def _is_cell(row: scaling.RunRow, said: Mapping[Hashable, Any]) -> bool:
    """Whether a run has the shape and, to the digits of the forecast, the tokens of a prediction."""
    return str(row.cell).endswith(f"/{said['shape']}") and math.isclose(row.tokens, said["D"], rel_tol=1e-4)


def main(verb: str) -> None:
    path = FORECAST / "forecast.csv"
    if verb == "make":
        forecast().to_csv(path, index=False, float_format="%.6g")
        print(f"wrote {path}")
        return
    scored = score(pd.read_csv(path))
    scored.to_csv(FORECAST / "scored.csv", index=False, float_format="%.6g")
    print(scored.to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    for kind, own in scored.groupby("kind", sort=False):
        mean, rms = own["error"].mean(), math.sqrt((own["z"] ** 2).mean())
        print(
            f"{kind}: {own['inside'].sum()} of {len(own)} inside, mean error {mean:+.3f}, root mean square z {rms:.2f}"
        )


if __name__ == "__main__":
    if sys.argv[1:] not in (["make"], ["score"]):
        sys.exit(__doc__)
    main(sys.argv[1])
