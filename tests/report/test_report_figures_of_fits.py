"""The figures that show whether laws hold: surface, fit, hold-outs, uncertainty, training curves."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import scaling
from scaling.analysis.study import study_rows
from scaling.report.figures.curves import TrainingCurve, curves_data, training_curves
from scaling.report.figures.fit_quality import FIT_QUALITY, fit_quality_data
from scaling.report.figures.holdouts import HOLDOUTS, holdouts_data
from scaling.report.figures.rendering import render
from scaling.report.figures.surface import SURFACE, surface_data
from scaling.report.figures.uncertainty import UNCERTAINTY, uncertainty_data

QUICKSTART = Path(__file__).parents[2] / "results" / "quickstart"


@pytest.fixture(scope="module")
def quickstart():
    rows = scaling.read_table(QUICKSTART / "runs.csv")
    return study_rows(rows, settings=scaling.settings_for_table(rows, scaling.Settings(bootstrap=100)))


def test_the_surface_is_the_law_and_its_line_the_frontier(study):
    data = surface_data(study)
    assert [panel.name for panel in data.panels] == ["dense", "low_rank@0.25"]  # the third has no law
    panel, line = data.panels[0], study.lines[0]
    for i, j in ((0, 0), (10, 30), (-1, -1)):
        n, d = panel.params[j], panel.tokens[i]
        assert panel.loss[i][j] == pytest.approx(float(line.law.fit.loss(n, d, 6 * n * d)))
    top = max(cell.flops for cell in line.cells)
    assert panel.best_params[-1] == pytest.approx(line.frontier.at(top).params)


def test_residuals_are_measured_minus_fitted_along_n_d_and_steps(study):
    data = fit_quality_data(study)
    assert len(data.lines) == 2
    for line, own in zip(study.lines, data.lines, strict=False):
        residuals = np.log(own.measured) - np.log(own.fitted)
        np.testing.assert_allclose(residuals, line.law.fit.residuals[: len(residuals)], atol=0.05)
        assert own.residual == pytest.approx([m - f for m, f in zip(own.measured, own.fitted, strict=True)])
        assert own.steps == tuple(cell.row.steps for cell in line.cells)


def test_hold_outs_are_those_of_the_calibration(quickstart):
    data = holdouts_data(quickstart)
    for line in quickstart.lines:
        runs = [one for one in data.runs if one.name == line.name]
        assert len(runs) == line.extrapolation.calibration.held_out
        inside = [abs(z) <= 1.95996 for one in runs for z in one.deviations]
        assert np.mean(inside) == pytest.approx(line.extrapolation.calibration.share_inside)
        assert all(c > 2e11 for c in runs[0].compute)  # the largest budget alone


def test_ellipses_hold_nineteen_of_twenty_draws(quickstart):
    data = uncertainty_data(quickstart)
    own = quickstart.joint.models["M3"]
    assert [pair.name for pair in data.pairs] == list(own.fit.layout.lines)
    for pair in data.pairs:
        around = np.array([pair.ellipse_alpha, pair.ellipse_beta])
        middle = around[:, :-1].mean(axis=1)
        draws = np.array([own.draws.vectors[:, own.fit.layout.index(f"{x}[{pair.name}]")] for x in ("alpha", "beta")])
        reach = np.linalg.norm(np.linalg.solve(np.linalg.cholesky(np.cov(draws)), draws - middle[:, None]), axis=0)
        assert 0.85 <= np.mean(reach <= 2.448) <= 1.0
    assert data.parts == ("seed", "cell", "budget", "line × budget")
    assert all(low <= (value or low) <= high for low, value, high in zip(data.low, data.value, data.high, strict=True))


def test_curves_are_those_of_the_folder(quickstart, tmp_path):
    assert curves_data(quickstart, tmp_path) is None
    data = curves_data(quickstart, QUICKSTART)
    with (QUICKSTART / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(len(one.loss) for _, curves in data.panels for one in curves) == len(rows)
    assert sorted(budget for budget in data.shades if budget) == quickstart.reference.budgets


def test_a_spike_stands_out_of_the_run_s_own_noise():
    losses = [3.0 - 0.01 * n + 0.02 * (n % 2) for n in range(60)]
    quiet = TrainingCurve(1e10, tuple(range(1, 61)), tuple(losses))
    assert quiet.spikes == []
    losses[40] += 0.5
    assert TrainingCurve(1e10, tuple(range(1, 61)), tuple(losses)).spikes == [40]
    noisy = tuple(3.0 + 0.3 * (n % 2) for n in range(60))
    assert TrainingCurve(1e10, tuple(range(1, 61)), noisy).spikes == []


@pytest.mark.parametrize("figure", [SURFACE, FIT_QUALITY, HOLDOUTS, UNCERTAINTY, training_curves(QUICKSTART)])
def test_each_is_drawn_and_captioned(figure, quickstart):
    data = figure.data(quickstart)
    assert figure.caption(data).endswith(".")
    assert len(render(figure.name, lambda: figure.draw(data), []).files["svg"]) > 10_000


@pytest.mark.parametrize("figure", [SURFACE, FIT_QUALITY, HOLDOUTS, UNCERTAINTY])
def test_without_a_law_there_is_no_figure(figure, simulate, settings):
    rows = [row for row in simulate() if row.budget == 2e10]
    assert figure.data(study_rows(rows, settings=settings)) is None
