import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.errors import PlanError, SpecError
from scaling.rows import CellKey
from scaling.sweeps.centres import centre_of
from scaling.sweeps.grid_cells import around
from scaling.sweeps.grids import Plan

Values = dict[str, Any]
Planned = Callable[..., Plan]


def cells_of(plan: Plan) -> list[CellKey]:
    return list(dict.fromkeys(run.cell for run in plan.runs))


def test_each_line_gets_its_budgets_and_sizes(small: Values, planned: Planned) -> None:
    found = planned(small)
    cells = cells_of(found)
    for line, budget in itertools.product(("dense", "low_rank@0.25", "low_rank@0.5"), ("2e+10", "6e+10", "2e+11")):
        assert len([c for c in cells if (c.line, c.group) == (line, budget)]) == 3
    assert len(found.runs) == 27
    assert found.dropped == ()


def test_a_line_may_have_rates_of_its_own(small: Values, planned: Planned) -> None:
    small["families"]["low_rank"]["other_lr"] = 0.02
    before = {run.run.id for run in planned(small).runs if run.line != "low_rank@0.5"}
    small["families"]["low_rank"]["lines"] = {"low_rank@0.5": {"lr": 0.03}}
    runs = planned(small).runs
    assert {run.run.id for run in runs if run.line != "low_rank@0.5"} == before
    assert {run.run.optimizer.lr for run in runs if run.line == "low_rank@0.5"} == {0.03}
    assert len({run.run.optimizer.other_lr for run in runs if run.family == "low_rank"}) == 1


def test_a_rate_that_is_tuned_over_is_not_also_said_of_a_line(small: Values, planned: Planned) -> None:
    small["families"]["low_rank"] |= {"lr": [0.02, 0.04], "lines": {"low_rank@0.5": {"lr": 0.03}}}
    with pytest.raises(SpecError, match="lr is tuned over"):
        planned(small)


def test_every_run_spends_its_budget_in_whole_batches(small: Values, planned: Planned) -> None:
    for flops in ("exact", "6ND"):
        small["grid"]["flops"] = flops
        for run in planned(small).runs:
            spent = run.flops if flops == "exact" else run.flops_6nd
            assert abs(spent / run.budget - 1) <= 0.01
            assert run.run.tokens == run.run.steps * run.run.batch_tokens
            assert run.run.batch_tokens % run.run.sequence_length == 0


def test_the_batch_depends_on_tokens_only(small: Values, planned: Planned) -> None:
    pairs = sorted((run.run.tokens, run.run.batch_tokens) for run in planned(small).runs)
    assert [batch for _, batch in pairs] == sorted(batch for _, batch in pairs)
    assert len({batch for _, batch in pairs}) > 3


def test_shapes_spread_around_the_centre(small: Values, planned: Planned) -> None:
    small["grid"] |= {"sizes_per_budget": 5, "span": 9}
    for run in planned(small).runs:
        if run.line == "dense" and run.budget == 2e11:
            assert 28_000 / 4.5 < run.counts.params_matmul < 28_000 * 4.5
    sizes = [r.counts.params_matmul for r in planned(small).runs if r.line == "dense" and r.budget == 2e11]
    assert min(sizes) < 28_000 / 2
    assert max(sizes) > 28_000 * 2


def test_a_line_may_have_fewer_cells_and_its_own_centre(small: Values, planned: Planned) -> None:
    small["grid"]["lines"] = {"low_rank@0.5": {"budgets": [6e10], "sizes_per_budget": 2}}
    small["grid"]["centre"] = {
        "dense": {"n_opt": "28k", "at": "2e11"},
        "low_rank": {"n_opt": "60k", "at": "2e11"},
        "low_rank@0.5": {"n_opt": "10k", "at": "6e10"},
    }
    found = planned(small)
    assert len([r for r in found.runs if r.line == "low_rank@0.5"]) == 2
    mean = {
        line: sum(r.counts.params_matmul for r in found.runs if r.line == line and r.budget == 2e11)
        for line in ("dense", "low_rank@0.25")
    }
    assert mean["low_rank@0.25"] > mean["dense"]


def test_a_published_law_gives_the_centre(small: Values, planned: Planned) -> None:
    small["grid"] |= {"centre": "hoffmann-2022-3", "ladder": "spectron", "budgets": ["1e20"], "flops": "6ND"}
    small["training"] = {"sequence_length": 2048, "batch_tokens": 2**19}
    sizes = [run.counts.params_total for run in planned(small, vocab_size=32000).runs if run.line == "dense"]
    # Hoffmann et al., table 3: about 400M parameters at 1.92e19 and 1B at 1.21e20 FLOPs.
    assert min(sizes) < 900e6 < max(sizes)
    small["grid"]["centre"] = "chinchila"
    with pytest.raises(PlanError, match="no published law"):
        planned(small)


def test_results_of_an_earlier_sweep_give_the_centre(small: Values, planned: Planned, tmp_path: Any) -> None:
    """Runs of a known law put the centre at its optimum under the counting that they had."""
    rows = ["line,family,params_total,params_matmul,tokens,loss,flops"]
    for n, d in itertools.product((1e4, 2e4, 4e4, 8e4), (2e5, 6e5, 2e6)):
        rows.append(f"dense,dense,{2 * n},{n},{d},{1.2 + 40 / n**0.5 + 300 / d**0.5},{8 * n * d}")
    folder = tmp_path / "results" / "before"
    folder.mkdir(parents=True)
    (folder / "runs.csv").write_text("\n".join(rows))
    small["grid"] |= {"centre": {"dense": "results/before", "low_rank": {"n_opt": "9k", "at": "2e10"}}}
    small["grid"] |= {"sizes_per_budget": 1, "budgets": ["8e10"]}
    law = centre_of(planned(small).sweep, family="dense", line="dense", root=tmp_path)
    assert law is not None
    # C = 8 N D: the least of 40/N^.5 + 300/D^.5 is where 40/N^.5 = 300/D^.5.
    assert law(8e10) == pytest.approx(math.sqrt(8e10 / 8) * 40 / 300, rel=1e-3)
    small["grid"]["centre"]["dense"] = "results/none"
    with pytest.raises(PlanError, match="cannot be read"):
        planned(small)


def test_tokens_per_param_crosses_shapes_and_multiples(small: Values, planned: Planned) -> None:
    small["grid"] = {"kind": "tokens_per_param", "multiples": [20, 160], "ladder": "tiny"}
    found = planned(small)
    kept = {run.cell: run.run.tokens / run.counts.params_matmul for run in found.runs}
    assert kept
    for cell, multiple in kept.items():
        assert multiple == pytest.approx(float(cell.group.rstrip("x")), rel=0.0101)
    assert len(kept) + len(found.dropped) == 3 * 2 * 17
    assert all("whole batches" in dropped.reason for dropped in found.dropped)


def test_points_name_their_shape_spending_and_lines(small: Values, planned: Planned) -> None:
    shape = {"layers": 2, "width": 32, "heads": 2, "ff_width": 88}
    small["grid"] = {
        "kind": "points",
        "ladder": "tiny",
        "points": [
            {"shape": "d24L2", "tokens": "1M", "lines": "dense"},
            {"shape": shape, "budget": "1e11", "lines": ["low_rank@0.25"]},
        ],
    }
    first, second = planned(small).runs
    assert (first.line, first.run.shape.width, first.budget) == ("dense", 24, None)
    assert first.run.tokens == pytest.approx(1e6, rel=0.01)
    assert (second.line, second.run.shape.heads) == ("low_rank@0.25", 2)
    assert second.flops == pytest.approx(1e11, rel=0.01)


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"min_steps": 1000}, "fewer than min_steps"),
        ({"max_steps": 2500}, "more than max_steps"),
        ({"min_params": "10k"}, "fewer than min_params"),
        ({"max_params": "20k"}, "more than max_params"),
        ({"max_epochs": 0.5}, "epochs, more than max_epochs"),
        ({"tokens_per_param": [20, 100]}, "tokens per parameter"),
    ],
)
def test_filters_drop_cells_with_the_reason(small: Values, planned: Planned, filters: Values, says: str) -> None:
    every = cells_of(planned(small))
    small["grid"]["filters"] = filters
    found = planned(small, corpus_tokens=1_000_000)
    dropped = [d.cell for d in found.dropped]
    assert dropped
    assert all(says in d.reason for d in found.dropped)
    assert sorted(map(str, cells_of(found) + dropped)) == sorted(map(str, every))


def test_a_budget_nobody_can_spend_is_an_error_at_its_line(small: Values, planned: Planned) -> None:
    small["grid"]["budgets"] = ["2e10", "1e3"]
    with pytest.raises(PlanError) as error:
        planned(small)
    assert "small.yaml:9: grid.budgets[1]" in str(error.value)
    small["grid"]["budgets"] = ["2e10", "1e30"]
    with pytest.raises(PlanError, match="every cell is dropped"):
        planned(small)


def test_a_rounding_of_more_than_one_percent_is_dropped(small: Values, planned: Planned) -> None:
    small["training"]["batch_tokens"] = 128 * 64
    found = planned(small)
    assert any("not within 1 %" in dropped.reason for dropped in found.dropped)


def test_seeds_and_replicates(small: Values, planned: Planned) -> None:
    small["training"] |= {"seeds": [3, 5], "replicates": {"budget": "largest", "sizes": 1, "seeds": 4}}
    seeds: dict[CellKey, list[int]] = {}
    for run in planned(small).runs:
        seeds.setdefault(run.cell, []).append(run.run.seed)
    assert sorted(len(found) for found in seeds.values()) == [2] * 24 + [4] * 3
    assert all(found == [3, 5, 6, 7] and cell.group == "2e+11" for cell, found in seeds.items() if len(found) == 4)


def test_equal_runs_of_two_cells_are_planned_once(small: Values, planned: Planned) -> None:
    """At width 8 the ratios .0625 and .1 round to the same rank of every matrix but one, at .06 and .0625 to all."""
    small["families"]["low_rank"] |= {"rank_ratio": [0.06, 0.0625], "rank_of": "min"}
    small["grid"] |= {"sizes_per_budget": 1, "centre": {"n_opt": "2k", "at": "2e10", "exponent": 0.01}}
    found = planned(small)
    ids = [run.run.id for run in found.runs]
    assert len(ids) == len(set(ids))
    assert any("the same run as one of low_rank@0.06/" in dropped.reason for dropped in found.dropped)


def test_ids_ignore_key_order_and_number_spelling(small: Values, planned: Planned) -> None:
    first = [run.run.id for run in planned(small).runs]
    small["grid"]["budgets"] = [20_000_000_000, "60G", 2.0e11]
    small["families"]["dense"] = dict(reversed(small["families"]["dense"].items())) | {"lr": "2e-2"}
    small["training"] = dict(reversed(small["training"].items()))
    assert [run.run.id for run in planned(small).runs] == first


def test_recipes_are_resolved_and_rounded(small: Values, planned: Planned) -> None:
    small["families"]["dense"] = {
        "parameterization": "dense",
        "optimizer": "adamw",
        "lr": {"recipe": "inverse-width", "base": 0.006, "base_width": 48},
        "weight_decay": {"recipe": "ema-timescale"},
    }
    small["training"]["schedule"] = {"warmup": {"recipe": "capped-fraction", "max_steps": 30}}
    for run in planned(small).runs:
        assert run.run.schedule.warmup_steps <= 30
        if run.line == "dense":
            optimizer = run.run.optimizer
            assert optimizer.lr == float(f"{0.006 * 48 / run.run.shape.width:.5e}")
            assert optimizer.weight_decay == pytest.approx(1 / (optimizer.lr * 0.25 * run.run.steps), rel=1e-5)
            assert optimizer.other_lr == optimizer.lr


def test_constants_of_the_optimizers_are_written_out(small: Values, planned: Planned) -> None:
    small["families"]["low_rank"] |= {"weight_decay": 0.1, "gradient_clip": 1.0, "nesterov": False}
    by_line = {run.line: run.run.optimizer for run in planned(small).runs}
    muon, spectron = by_line["dense"], by_line["low_rank@0.25"]
    assert (muon.momentum, muon.nesterov, muon.newton_schulz_steps, muon.shape_factor) == (0.95, True, 5, "original")
    assert (spectron.shape_factor, spectron.nesterov, spectron.weight_decay) == (None, None, 0.1)
    assert muon.weight_decay is None


def test_ranks_follow_rank_of(small: Values, planned: Planned) -> None:
    down = {}
    for rank_of in ("in_features", "min"):
        small["families"]["low_rank"]["rank_of"] = rank_of
        run = next(r.run for r in planned(small).runs if r.line == "low_rank@0.5" and r.run.shape.width == 24)
        down[rank_of] = run.ranks["down"]
    assert down == {"in_features": 24, "min": 12}


def test_two_plans_of_one_file_are_equal(small: Values, planned: Planned) -> None:
    assert planned(small).runs == planned(small).runs


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    budget=st.floats(1e9, 1e13),
    sizes=st.integers(1, 17),
    ratio=st.floats(0.01, 1.0),
    flops=st.sampled_from(["exact", "6ND"]),
    batch=st.integers(1, 32).map(lambda n: 128 * n),
)
def test_any_isoflop_cell_is_run_or_dropped_never_lost(
    small: Values, planned: Planned, budget: float, sizes: int, ratio: float, flops: str, batch: int
) -> None:
    small["grid"] |= {"budgets": [budget], "sizes_per_budget": sizes, "flops": flops}
    small["families"]["low_rank"]["rank_ratio"] = ratio
    small["training"]["batch_tokens"] = batch
    small["grid"]["filters"] = {"tokens_per_param": [1e-9, 1e12]}
    try:
        found = planned(small)
    except PlanError:
        assert budget < 100 * 3 * 2 * 15_000 * batch  # nothing came within one percent: fewer than 100 batches each
        return
    assert len(found.runs) + len(found.dropped) == 2 * sizes
    assert all(abs((r.flops if flops == "exact" else r.flops_6nd) / budget - 1) <= 0.01 for r in found.runs)


def test_around_never_takes_a_shape_twice() -> None:
    class Sized:
        def __init__(self, size: int) -> None:
            self.size = size

    ladder = [Sized(n) for n in (10, 20, 40, 80, 160)]
    for centre, sizes in itertools.product((1, 35, 1e6), range(1, 8)):
        chosen = around(ladder, centre, sizes, 9.0)
        assert len({model.size for model in chosen}) == len(chosen) == min(sizes, 5)
        assert [model.size for model in chosen] == sorted(model.size for model in chosen)


def test_further_points_join_the_grid_and_move_none_of_its_runs(small: Values, planned: Callable[..., Plan]) -> None:
    small["training"]["replicates"] = {"seeds": 2, "budget": "largest"}
    before = planned(small)
    shape, budget = before.runs[0].cell.shape, before.runs[0].budget
    small["grid"]["further"] = [
        {"shape": shape, "budget": budget, "lines": ["dense"], "seeds": [7, 8]},  # a cell of the grid
        {"shape": shape, "budget": 5e12, "lines": "low_rank@0.25", "seeds": [3]},
    ]
    after = planned(small)
    known = {run.run.id for run in before.runs}
    added = [run for run in after.runs if run.run.id not in known]
    assert known <= {run.run.id for run in after.runs}
    assert [(run.line, run.cell.group, run.run.seed) for run in added] == [
        ("dense", f"{budget:g}", 7),
        ("dense", f"{budget:g}", 8),
        ("low_rank@0.25", "5e+12", 0),
        ("low_rank@0.25", "5e+12", 3),
    ]
    small["grid"]["further"] = [{"shape": "d9000L1", "budget": 5e12}]
    with pytest.raises(PlanError, match="no such shape"):
        planned(small)


def test_further_points_take_the_winner_of_the_grid_where_it_is_tuned_in_stages(
    small: Values, planned: Callable[..., Plan]
) -> None:
    small["families"]["dense"]["lr"] = [0.01, 0.02, 0.04]
    small["tune"] = {"cells": 1, "recheck": False}
    small["grid"]["further"] = [{"shape": "d16L2", "budget": 5e12, "lines": ["dense"]}]
    before = planned(small)
    (waiting,) = [run for run in before.pending if run.cell.group == "5e+12"]
    losses = {run.run.id: (run.run.optimizer.lr - 0.02) ** 2 for run in before.runs}
    (further,) = [run for run in planned(small, losses=losses).runs if run.cell.group == "5e+12"]
    assert further.run.optimizer.lr == 0.02
    assert waiting.cell == further.cell
