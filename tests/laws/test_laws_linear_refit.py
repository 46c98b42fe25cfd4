"""Draws over thousands of points in the linear model, against exact refits."""

import numpy as np
import pytest

from scaling.laws import draws as draws_module
from scaling.laws import linear_refit as module
from scaling.laws.draws import Kind, bootstrap
from scaling.laws.fitting import fit
from scaling.laws.points import Points


def many(noise: float, count: int = 4_000) -> Points:
    rng = np.random.default_rng(1)
    compute = np.repeat(np.geomspace(1e18, 1e21, 20), count // 20)
    params = 0.1 * np.sqrt(compute) * np.exp(rng.uniform(-1.2, 1.2, count))
    tokens = compute / 6 / params
    loss = (1.8 + 480 * params**-0.35 + 2100 * tokens**-0.37) * np.exp(noise * rng.normal(size=count))
    return Points(params, tokens, loss, flops=compute)


@pytest.mark.parametrize(
    ("kind", "objective", "delta"),
    [("cases", "log_mse", None), ("residuals", "log_mse", None), ("cases", "log_huber", 0.0135)],
)
def test_linear_refits_are_the_exact_ones_within_a_tenth_of_their_spread(
    kind: Kind, objective: str, delta: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = fit(many(0.01), objective=objective, delta=delta)
    linear = bootstrap(fitted, draws=40, kind=kind).vectors
    monkeypatch.setattr(module, "FEWEST_POINTS", 10**9)
    exact = bootstrap(fitted, draws=40, kind=kind).vectors
    assert not np.array_equal(linear, exact)
    assert (np.abs(linear - exact) <= 0.15 * exact.std(axis=0)).all()
    assert linear.std(axis=0) == pytest.approx(exact.std(axis=0), rel=0.03)


@pytest.mark.parametrize(
    ("noise", "count", "objective"), [(0.3, 4_000, "log_mse"), (0.01, 2_000, "log_mse"), (0.01, 4_000, "log_huber")]
)
def test_refits_are_exact_where_the_law_bends_within_its_noise_where_points_are_few_and_near_l1(
    noise: float, count: int, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = fit(many(noise, count), objective=objective)
    found = bootstrap(fitted, draws=20, kind="residuals")
    monkeypatch.setattr(draws_module, "linear_refit", lambda *_: None)
    assert np.array_equal(found.vectors, bootstrap(fitted, draws=20, kind="residuals").vectors)
