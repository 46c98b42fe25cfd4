"""Each check of a plan, on a plan made to trigger it and on one that must not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from scaling.sweeps.grids import Plan


def few_budgets(sweep: dict[str, Any]) -> None:
    sweep["grid"]["budgets"] = ["6e10", "2e11"]


def many_budgets(sweep: dict[str, Any]) -> None:
    sweep["grid"]["budgets"] = ["2e10", "6e10", "2e11", "6e11"]


def short(sweep: dict[str, Any]) -> None:
    sweep["training"]["batch_tokens"] = "8192"
    sweep["grid"]["filters"] = {"min_steps": 1}


def large_models(sweep: dict[str, Any]) -> None:
    sweep["grid"] |= {"ladder": "spectron", "budgets": ["1e21", "1e22", "1e23"]}
    sweep["grid"].pop("centre")
    sweep["grid"].pop("sizes_per_budget")
    sweep["grid"]["sizes"] = "all"


def low_rank(ratio: float) -> Callable[[dict[str, Any]], None]:
    def change(sweep: dict[str, Any]) -> None:
        sweep["families"]["low_rank"] |= {"rank_ratio": ratio, "rank_of": "min"}

    return change


def seeds(sweep: dict[str, Any]) -> None:
    sweep["training"]["seeds"] = [0, 1]


def one_optimizer(sweep: dict[str, Any]) -> None:
    sweep["families"]["low_rank"]["optimizer"] = "muon"


def same(sweep: dict[str, Any]) -> None:
    """The small sweep as it is."""


@pytest.mark.parametrize(
    ("code", "severity", "weak", "sound"),
    [
        ("few_budgets", "warning", few_budgets, many_budgets),
        ("few_budgets", "warning", same, many_budgets),
        ("few_steps", "warning", short, large_models),
        ("embedding_share", "info", same, large_models),
        ("rank_saves_nothing", "warning", low_rank(0.75), low_rank(0.125)),
        ("seed_noise_unknown", "warning", same, seeds),
        ("optimizer_differs", "info", same, one_optimizer),
    ],
)
def test_a_check_is_made_where_it_is_due(
    planned: Callable[[dict[str, Any]], Plan],
    small: dict[str, Any],
    code: str,
    severity: str,
    weak: Callable[[dict[str, Any]], None],
    sound: Callable[[dict[str, Any]], None],
) -> None:
    found = []
    for change in (weak, sound):
        sweep = copy.deepcopy(small)
        change(sweep)
        found.append({check.code: check.severity for check in planned(sweep).checks})
    assert found[0].get(code) == severity
    assert code not in found[1]
