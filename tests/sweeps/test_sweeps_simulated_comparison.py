import math
from collections.abc import Callable
from typing import Any

import pytest

from scaling.sweeps.grids import Plan
from scaling.sweeps.simulated_comparison import simulate_comparisons

Values = dict[str, Any]


@pytest.fixture
def study(small: Values) -> Values:
    small["grid"] |= {"sizes_per_budget": 5, "budgets": ["2e10", "6e10", "2e11"]}
    return small


def test_the_width_in_log_is_proportional_to_the_noise(study: Values, planned: Callable[..., Plan]) -> None:

    plan = planned(study)
    quiet, loud = (simulate_comparisons(plan, noise=noise, studies=3) for noise in (0.002, 0.004))
    assert [one.line for one in quiet] == ["low_rank@0.25", "low_rank@0.5"]
    for one, other in zip(quiet, loud, strict=True):
        assert one.reference == "dense"
        assert one.model == "M3"
        assert math.log(other.factor) == pytest.approx(2 * math.log(one.factor), rel=0.3)
        assert other.verdict_beyond > one.verdict_beyond > 1


def test_a_line_with_one_budget_is_compared_by_a_factor_on_n(study: Values, planned: Callable[..., Plan]) -> None:
    study["grid"]["lines"] = {"low_rank@0.5": {"budgets": ["6e10"]}}
    found = {one.line: one for one in simulate_comparisons(planned(study), studies=2)}
    assert found["low_rank@0.5"].model == "M1"
    assert found["low_rank@0.5"].factor > found["low_rank@0.25"].factor > 1


def test_lines_that_cannot_be_compared_say_why(study: Values, planned: Callable[..., Plan]) -> None:
    study["grid"] |= {"budgets": ["2e10"], "sizes_per_budget": 2}
    for one in simulate_comparisons(planned(study), studies=2):
        assert one.factor is None
        assert one.message


def test_one_line_has_nothing_to_be_compared_with(study: Values, planned: Callable[..., Plan]) -> None:
    study["families"] = {"dense": study["families"]["dense"]}
    assert simulate_comparisons(planned(study), studies=2) == []
