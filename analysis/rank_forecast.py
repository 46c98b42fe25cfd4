"""The next budget of the rank study, predicted before it was trained, and held against what was trained.

    .venv/bin/python analysis/rank_forecast.py make rank-study     # before: writes the forecast
    .venv/bin/python analysis/rank_forecast.py score rank-study    # after: prints every prediction beside its outcome

Two forecasts: `rank-study` says from its four smaller budgets (results/rank-study-forecast) what its fifth gives;
`rank-study-h100` says from all five (results/rank-study) what ten times the largest gives. `make` predicts, for every
line that has a law, the loss of each planned run of the sweep's largest budget (stacked forms, 95 % interval of one
run), the isoFLOP minimum there, and the compute multiplier against dense (M3). `score` finds the same numbers in the
study of all budgets trained by then. Errors are given in nats (of multipliers in log) and in standard deviations of the
prediction, its half-width over 1.96.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import scaling
from scaling.analysis.predictions import predict, predict_loss

COLUMNS = ("kind", "line", "shape", "N", "D", "predicted", "low", "high")


@dataclass(frozen=True)
class Forecast:
    """What is predicted, from which table, and in which tables it is found; `folder` keeps both."""

    sweep: Path
    known: Path
    outcome: tuple[Path, ...]
    folder: Path


STUDY, H100 = Path("results/rank-study"), Path("results/rank-study-h100")
FORECASTS = {
    "rank-study": Forecast(
        Path("sweeps/rank-study.yaml"), Path("results/rank-study-forecast/runs.csv"), (STUDY / "runs.csv",),
        Path("results/rank-study-forecast"),
    ),
    "rank-study-h100": Forecast(
        Path("sweeps/rank-study-h100.yaml"), STUDY / "runs.csv", (STUDY / "runs.csv", H100 / "runs.csv"), H100
    ),
}  # fmt: skip


def study_of(*tables: Path) -> scaling.Study:
    """The study of the runs of some tables, with the settings of the first one's sweep."""
    rows = [row for table in tables for row in scaling.read_table(table)]
    return scaling.study_rows(rows, settings=scaling.settings_for_table(rows, scaling.Settings()))


def forecast(one: Forecast) -> pd.DataFrame:
    """Every prediction, one row each."""
    return pd.DataFrame(list(_forecast(one)))


def _forecast(one: Forecast) -> Iterator[dict[str, object]]:
    study, plan = study_of(one.known), scaling.Project.open(one.sweep).plan(None).plan
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


def score(one: Forecast) -> pd.DataFrame:
    """Every prediction whose outcome is found, with its error, also in standard deviations."""
    predictions, study = pd.read_csv(one.folder / "forecast.csv"), study_of(*one.outcome)
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


def main(verb: str, one: Forecast) -> None:
    path = one.folder / "forecast.csv"
    if verb == "make":
        one.folder.mkdir(exist_ok=True)
        forecast(one).to_csv(path, index=False, float_format="%.6g")
        print(f"wrote {path}")
        return
    scored = score(one)
    scored.to_csv(one.folder / "scored.csv", index=False, float_format="%.6g")
    print(scored.to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    for kind, own in scored.groupby("kind", sort=False):
        mean, rms = own["error"].mean(), math.sqrt((own["z"] ** 2).mean())
        print(
            f"{kind}: {own['inside'].sum()} of {len(own)} inside, mean error {mean:+.3f}, root mean square z {rms:.2f}"
        )


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("make", "score") or sys.argv[2] not in FORECASTS:
        sys.exit(__doc__)
    main(sys.argv[1], FORECASTS[sys.argv[2]])
