"""Bad input: one clear error or a check code, never a NumPy warning (pytest turns those into errors), never a fit
that looks good.
"""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from laws_cases import HOFFMANN, chinchilla_loss, isoflop_design, isoflop_points, random_case

from scaling.errors import FitError
from scaling.laws.fit_text import report_text
from scaling.laws.fitting import fit
from scaling.laws.line_study import study_line
from scaling.laws.points import Points


@pytest.mark.parametrize("column", ["params", "tokens", "loss", "flops", "budget"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_values_no_law_can_use(column, value):
    points = isoflop_points()
    columns = {"params": points.params, "tokens": points.tokens, "loss": points.loss, "flops": points.budget}
    columns["budget"] = points.budget
    spoiled = columns[column].copy()
    spoiled[3] = value
    with pytest.raises(FitError, match=rf"column {column}, point 4[\s\S]*found"):
        Points(**columns | {column: spoiled})


def test_wrong_columns():
    points = isoflop_points()
    with pytest.raises(FitError, match="differ in length"):
        Points(points.params, points.tokens[:-1], points.loss)
    with pytest.raises(FitError, match="not a number"):
        Points(points.params, points.tokens, ["three"] * 35)
    with pytest.raises(FitError, match="no points"):
        Points([], [], [])
    with pytest.raises(FitError, match="every weight is zero"):
        Points(points.params, points.tokens, points.loss, weight=np.zeros(35))
    with pytest.raises(FitError, match="column weight, point 1"):
        Points(points.params, points.tokens, points.loss, weight=-np.ones(35))


def test_designs_that_determine_nothing():
    params, tokens, budget = isoflop_design()
    loss = chinchilla_loss(HOFFMANN, params, tokens)
    one_size = np.full(35, 1e8)
    with pytest.raises(FitError, match=r"alpha cannot be told from a constant[\s\S]*1 different value"):
        fit(Points(one_size, tokens, loss))
    with pytest.raises(FitError, match="beta cannot be told"):
        fit(Points(params, np.where(tokens > 1e10, 1e10, 1e9), loss))
    with pytest.raises(FitError, match="same loss"):
        fit(Points(params, tokens, np.full(35, 3.0)))
    for count in (1, 2):
        some = budget <= np.unique(budget)[count - 1]
        with pytest.raises(FitError, match=rf"few compute budgets[\s\S]*{count} compute budget"):
            fit(Points(params[some], tokens[some], loss[some], budget=budget[some]))
        with pytest.raises(FitError, match="few compute budgets"):
            fit(Points(params[some], tokens[some], loss[some]))
    with pytest.raises(FitError, match=r"no points would be left[\s\S]*35 of 35 dropped"):
        Points(params, tokens, loss).drop_highest(35)
    with pytest.raises(FitError, match="more parameters than there are points"):
        fit(Points(params[::9], tokens[::9], loss[::9]))


def test_as_many_points_as_parameters_is_not_presented_as_good():
    params, tokens, _ = isoflop_design()
    rows = [0, 9, 17, 25, 34]
    made = fit(Points(params[rows], tokens[rows], chinchilla_loss(HOFFMANN, params[rows], tokens[rows])))
    assert made.status != "ok"


def test_a_study_of_bad_points_has_a_status_or_a_check():
    rng = np.random.default_rng(0)
    points = isoflop_points()
    noise_alone = points.with_loss(3.0 * np.exp(0.05 * rng.normal(size=35)))
    rising = points.with_loss(np.sort(points.loss)[np.argsort(np.argsort(points.compute))])
    below_floor = points.with_loss(np.where(np.arange(35) == 7, 1e-3, points.loss))
    told = ({"explains_little", "audit_failed"}, {"fit_degenerate", "explains_little"}, {"outliers"})
    for bad, codes in zip((noise_alone, rising, below_floor), told, strict=True):
        study = study_line(bad, draws=50)
        assert codes <= {check.code for check in study.checks}
        text = report_text(study.fit, study.draws)
        assert ("no intervals" in text) == (study.fit.status == "degenerate")


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    noise=st.sampled_from([0.0, 0.01, 0.5]),
    objective=st.sampled_from(["log_huber", "log_mse", "mse", "huber"]),
    law=st.sampled_from(["chinchilla", "kaplan", "power"]),
)
@example(seed=439, scale=1.0, noise=0.5, objective="mse", law="kaplan")
def test_any_positive_table_is_fitted_or_refused(seed, scale, noise, objective, law):
    rng = np.random.default_rng(seed)
    _, points = random_case(rng, seed)
    noisy = points.with_loss(scale * points.loss * np.exp(noise * rng.normal(size=len(points))))
    try:
        made = fit(noisy, law, objective=objective)
    except FitError:
        return
    assert np.isfinite(list(made.parameters.values())).all()
    assert np.isfinite(made.objective_value)
    assert made.objective_value >= 0
    assert set(made.bounds_hit) <= set(made.parameters) | {"A", "B", "mu"}
