from __future__ import annotations

from dataclasses import replace

import pytest

from scaling.analysis.data_points import gather, line_name
from scaling.errors import DataError
from scaling.rows import RunRow


def gathered(rows, *, where=None, exclude=None):
    return gather(rows, params_column="params_matmul", flops_column="flops", where=where or {}, exclude=exclude or {})


def test_seeds_are_one_cell_and_all_of_them_points(simulate):
    made = gathered(simulate())
    assert {line: len(cells) for line, cells in made.lines.items()} == {
        "dense": 15,
        "low_rank@0.25": 15,
        "low_rank@0.5": 10,
    }
    replicated = [cell for cell in made.cells if len(cell.rows) > 1]
    assert [len(cell.rows) for cell in replicated] == [3, 3, 3]
    cell = replicated[0]
    assert cell.loss == pytest.approx(sum(row.loss for row in cell.rows) / 3)
    assert made.dropped == ()


def test_only_completed_runs_are_points_and_the_others_have_a_reason(simulate):
    rows = simulate()
    for n, status in ((0, "failed"), (8, "diverged"), (9, "stale"), (10, "planned")):
        rows[n] = replace(rows[n], **{"status": status, "loss": None})
    made = gathered(rows, exclude={rows[11].id: "loss spike"}, where={"min_steps": 600, "max_epochs": None})
    reasons = {item.run: item.reason for item in made.dropped}
    assert [reasons[rows[n].id] for n in (0, 8, 9, 10)] == ["failed", "diverged", "stale", "planned"]
    assert reasons[rows[11].id] == "excluded: loss spike"
    short = [row for row in rows if row.steps < 600]
    assert short
    assert all("min_steps: 600" in reasons[row.id] for row in short if row.status == "completed")
    kept = {name for cell in made.cells for name in cell.rows[0].id.split()}
    assert kept.isdisjoint(reasons)
    assert sum(len(cell.rows) for cell in made.cells) + len(reasons) == len(rows)


def test_bounds_on_params_mean_the_studys_own_count(simulate):
    made = gathered(simulate(), where={"max_params": 10_000})
    assert made.cells
    assert max(cell.params for cell in made.cells) <= 10_000


def test_a_tuned_cell_keeps_the_best_setting_by_its_mean_over_seeds(simulate):
    rows = [row for row in simulate() if row.line == "dense"][:1]
    rows = [
        replace(rows[0], id=f"{lr}{seed}", lr=lr, seed=seed, loss=loss)
        for lr, seed, loss in ((0.01, 0, 2.0), (0.01, 1, 2.4), (0.02, 0, 2.1), (0.02, 1, 2.15))
    ]
    made = gathered(rows)
    assert len(made.cells) == 1
    assert made.cells[0].settings == 2
    assert made.cells[0].names == ("0.020", "0.021")
    assert [item.run for item in made.dropped] == ["0.010", "0.011"]


def test_labels_pair_the_cells_of_two_lines(simulate):
    lines = gathered(simulate()).lines
    shared = {cell.label for cell in lines["dense"]} & {cell.label for cell in lines["low_rank@0.5"]}
    assert len(shared) == 10


def test_unknown_columns_and_runs_are_refused(simulate):
    rows = simulate()
    with pytest.raises(DataError, match="no such column"):
        gathered(rows, where={"min_stepz": 1})
    with pytest.raises(DataError, match="not in the table"):
        gathered(rows, exclude={"nothing": "because"})


def test_line_names():
    assert line_name(RunRow(tokens=1, family="low_rank", rank_ratio=0.25)) == "low_rank@0.25"
    assert line_name(RunRow(tokens=1, family="dense")) == "dense"
    assert line_name(RunRow(tokens=1)) == "all"
