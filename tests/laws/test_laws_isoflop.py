import numpy as np
import pytest
from laws_cases import HOFFMANN, centred_valleys, isoflop_points, public_points

from scaling.errors import FitError
from scaling.laws.isoflop import isoflop
from scaling.laws.points import Points


@pytest.mark.parametrize(("curve", "third"), [("parabola", 0.0), ("cubic", 0.0005)])
def test_exact_valleys_give_their_exponent_back(curve, third):
    made = isoflop(centred_valleys(third), curve=curve, draws=50)
    assert made.exponents == pytest.approx({"N": 0.45, "D": 0.55}, abs=1e-6)
    assert made.coefficients["N"] == pytest.approx(0.3, rel=1e-4)
    assert all(minimum.bracketed for minimum in made.minima)
    assert made.at(1e20)["N"] == pytest.approx(0.3 * 1e20**0.45, rel=1e-4)


def test_akima_finds_the_bottoms_too():
    made = isoflop(centred_valleys(), curve="akima", draws=20)
    assert made.exponents["N"] == pytest.approx(0.45, abs=0.01)


def test_approach_two_is_biased_even_without_noise_and_only_a_little():
    law = HOFFMANN | {"alpha": 0.5, "beta": 0.25, "B": 200.0, "A": 3e4}
    points = isoflop_points(law, spread=8.0)
    made = isoflop(points, draws=0)
    truth = 0.25 / 0.75
    assert made.exponents["N"] != pytest.approx(truth, abs=1e-3)


def test_llama_three_minima():
    made = isoflop(public_points("llama3_isoflop.csv"))
    assert made.exponents["D"] == pytest.approx(0.537, abs=1e-3)
    assert made.coefficients["D"] == pytest.approx(0.299, abs=2e-3)
    assert made.exponents["N"] == pytest.approx(0.463, abs=1e-3)
    inliers = isoflop(public_points("llama3_isoflop.csv", keep="inliers"))
    assert inliers.exponents["N"] == pytest.approx(0.495, abs=0.01)


def test_chinchilla_isoflop_minima():
    made = isoflop(public_points("chinchilla_isoflop.csv"))
    assert made.exponents["N"] == pytest.approx(0.513, abs=0.005)
    low, high = made.exponent_intervals["N"]
    assert low < 0.513 < high


def test_unbracketed_minima_are_rejected_with_the_reason():
    points = centred_valleys()
    budgets = np.unique(points.budget)
    x = np.log(points.params / (0.3 * points.budget**0.45))
    kept = points.select((points.budget != budgets[0]) | (x > 0.1))
    first = isoflop(kept, draws=10).minima[0]
    assert not first.bracketed
    assert "smallest size" in first.reason
    last = isoflop(points.select((points.budget != budgets[-1]) | (x < -0.1)), draws=10).minima[-1]
    assert not last.bracketed
    assert "largest size" in last.reason
    two = points.select((points.budget != budgets[1]) | (np.abs(x) < 0.3))
    assert "takes 3" in isoflop(two, draws=10).minima[1].reason
    concave = points.with_loss(5 - points.loss)
    made = isoflop(concave, draws=10)
    assert made.exponents == {}
    assert "at least 3" in made.message


def test_minimum_intervals_cover_the_bottom():
    inside = 0
    for seed in range(20):
        points = centred_valleys()
        noisy = points.with_loss(points.loss * np.exp(0.003 * np.random.default_rng(seed).normal(size=len(points))))
        made = isoflop(noisy, draws=300, seed=seed)
        low, high = made.exponent_intervals["N"]
        inside += low < 0.45 < high
    assert inside >= 16


def test_approach_two_needs_budgets_and_a_known_curve():
    points = centred_valleys()
    with pytest.raises(FitError, match="no column budget"):
        isoflop(Points(points.params, 20 * points.params, points.loss))
    with pytest.raises(FitError, match=r"unknown curve[\s\S]*akima"):
        isoflop(points, curve="spline")
