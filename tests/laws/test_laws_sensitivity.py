import pytest
from laws_cases import isoflop_points

from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.isoflop import isoflop
from scaling.laws.sensitivity import form_range, objective_row


def test_objective_row_has_the_four_columns_and_agrees_on_exact_data():
    row = objective_row(isoflop_points())
    assert [(c.objective, c.delta) for c in row] == [
        ("log_huber", 1e-4),
        ("log_huber", 1e-3),
        ("log_huber", 1e-2),
        ("log_mse", None),
    ]
    assert all(c.exponents["N"] == pytest.approx(0.3658 / 0.7136, rel=1e-6) for c in row)


def test_form_range_grows_with_the_distance_from_the_data():
    made = fit(isoflop_points(noise=0.005))
    minima = isoflop(made.points, draws=10)
    near, far = (form_range(made, compute, isoflop=minima) for compute in (1e21, 1e26))
    assert any("E = 0" in name for name in near.members)
    assert any("approach 2" in name for name in near.members)

    def width(spread):
        low, high = spread.ranges["loss"]
        return high / low

    assert width(far) > 2 * width(near) - 1 > 1
    assert near.ranges["N"][0] <= frontier(made).at(1e21).params <= near.ranges["N"][1]
