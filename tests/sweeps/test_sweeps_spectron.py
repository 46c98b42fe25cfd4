"""The published low-rank study (arXiv 2602.12429) as a file: its shapes, parameter counts and step counts."""

from pathlib import Path

import pytest

from scaling.sweeps.counting import count, matrix_ranks
from scaling.sweeps.grids import Plan, plan
from scaling.sweeps.ladders import LADDERS
from scaling.sweeps.schema import load_sweep

SWEEPS = Path(__file__).parents[2] / "sweeps"
# shape: dense and low-rank parameters as printed
PARAMS = {
    "60M": ("60.0M", "47.5M"),
    "92M": ("91.8M", "67.8M"),
    "134M": ("134.1M", "93.6M"),
    "150M": ("148.3M", "101.0M"),
    "220M": ("218.9M", "143.2M"),
    "325M": ("322.5M", "200.9M"),
    "500M": ("488.3M", "296.9M"),
    "780M": ("777.9M", "453.8M"),
    "835M": ("834.5M", "483.5M"),
    "1.4B": ("1364M", "780.8M"),
    "1.7B": ("1673M", "943.2M"),
    "2.7B": ("2702M", "1495M"),
}
STEPS = {
    "2.2e+18": [7368, 5154, 3736, 3462, 2441, 1740, 1178, 770, 723, 448, 371, 234],
    "5.57e+18": [18654, 13050, 9459, 8765, 6181, 4407, 2982, 1951, 1831, 1134, 939, 592],
    "1.41e+19": [47222, 33036, 23944, 22187, 15647, 11155, 7548, 4938, 4636, 2870, 2376, 1499],
    "3.57e+19": [None, None, 60624, 56176, 39617, 28243, 19110, 12503, 11737, 7268, 6016, 3795],
    "2.29e+20": [None, None, None, None, None, None, None, 80200, 75286, 46619, 38591, 24344],
}


@pytest.fixture(scope="module")
def study() -> Plan:
    sweep = load_sweep(SWEEPS / "spectron.yaml")
    assert sweep.data.vocab_size is not None
    return plan(sweep, vocab_size=sweep.data.vocab_size)


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_equal_the_printed_digits(name: str) -> None:
    shape = next(rung for rung in LADDERS["spectron"] if rung.name == name).shape(32_000)
    for found, printed in zip((count(shape), count(shape, matrix_ranks(shape, 0.25))), PARAMS[name], strict=True):
        digits = len(printed.partition(".")[2]) - 1 if "." in printed else 0
        assert f"{found.params_total / 1e6:.{digits}f}M" == printed


def test_every_step_count_is_within_a_thousandth(study: Plan) -> None:
    found = {str(planned.cell): planned.run.steps for planned in study.runs}
    asked = {
        f"low_rank@0.25/{budget}/{name}": count
        for budget, counts in STEPS.items()
        for name, count in zip(PARAMS, counts, strict=True)
        if count is not None
    }
    assert found.keys() == asked.keys()
    for cell, steps in asked.items():
        assert abs(found[cell] - steps) <= max(0.001 * steps, 0.5), cell


def test_the_cells_the_paper_did_not_run_are_dropped_with_the_reason(study: Plan) -> None:
    missing = sum(count is None for counts in STEPS.values() for count in counts)
    assert len(study.dropped) == missing == 9
    assert all("more than max_steps 82000" in dropped.reason for dropped in study.dropped)


def test_the_plan_says_what_is_weak_about_that_study(study: Plan) -> None:
    checks = {check.code: check.message for check in study.checks}
    assert "the shortest 234" in checks["few_steps"]
    assert "11% to 69%" in checks["embedding_share"]
    assert {"seed_noise_unknown", "untuned_rate"} <= checks.keys()


@pytest.mark.parametrize("name", ["quickstart", "quickstart-full", "spectron", "spectron-dense", "rank"])
def test_every_sweep_of_the_repository_plans_at_its_budgets(name: str) -> None:
    sweep = load_sweep(SWEEPS / f"{name}.yaml")
    planned = plan(sweep, vocab_size=sweep.data.vocab_size or 256)
    assert sweep.name == name
    assert planned.runs
    for one in planned.runs:
        spent = one.flops if sweep.grid.flops == "exact" else one.flops_6nd
        assert one.budget is not None
        assert abs(spent / one.budget - 1) <= 0.01
