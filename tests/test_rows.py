"""Rows keep every value through JSON and CSV, and say where a value cannot be used."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pandas
import pytest

from scaling.errors import DataError, StoreError
from scaling.rows import COLUMNS, CellKey, DroppedCell, PlanRow, RunRow, SetLoss, read_runs, write_runs
from scaling.run import Shape

ROW = RunRow(id="a", line="low_rank@0.25", status="completed", tokens=640, params_total=5000, loss=2.5, flops=1e21 / 3)
ROW = replace(ROW, layers=2, width=16, heads=4, kv_heads=2, tied=True, ff_width=40, vocab_size=256)
RANKS = {"q": 4, "k": 3, "v": 3, "o": 4, "gate": 4, "up": 4, "down": 10}


def test_a_label_is_made_from_its_key():
    assert str(CellKey("low_rank@0.25", "2e+10", "d32L2")) == "low_rank@0.25/2e+10/d32L2"


def test_a_plan_row_comes_back_from_json(a_plan_row):
    row = a_plan_row(cell=CellKey("a/b", "20x", "two/thirds"), rank_of="min", trunk="t", inherited_steps=3)
    document = json.loads(json.dumps(row.to_json()))
    assert PlanRow.from_json(document | {"of a later version": 1}) == row
    assert document["cell"] == "a/b/20x/two/thirds"
    assert row.run.id == row.id
    assert "settings" not in replace(row, settings=None).to_json()
    dropped = DroppedCell(row.cell, "too short")
    assert DroppedCell.from_json(json.loads(json.dumps(dropped.to_json()))) == dropped


@pytest.mark.parametrize("settings", [{}, {"shape": True}, {"data": "thirteen chars"}, {"x": 1}])
def test_settings_that_are_of_no_run_are_named(a_plan_row, settings):
    row = a_plan_row()
    row = replace(row, settings={**row.settings, **settings} if settings else {})
    with pytest.raises(StoreError, match="cannot be read") as error:
        _ = row.run
    assert error.value.where == row.id


def test_a_table_keeps_every_field_and_every_validation_set(tmp_path: Path):
    full = replace(ROW, sets=(SetLoss("code", 1.5, 0.01, 1.4), SetLoss("prose", 2.0)))
    text = {field.name: f"some {field.name}" for field in fields(RunRow) if "str" in str(field.type)}
    numbers = {field.name: n + 0.5 for n, field in enumerate(fields(RunRow)) if "float" in str(field.type)}
    other = replace(full, **text | numbers | {"rank_ratio": 0.1}, sets=(SetLoss("prose", None, None, 0.5),))
    write_runs(tmp_path / "runs.csv", [full, ROW, other])
    assert read_runs(tmp_path / "runs.csv") == [full, ROW, other]
    frame = pandas.read_csv(tmp_path / "runs.csv")
    assert frame["loss:code"].dropna().to_list() == [1.5]
    assert frame["loss_per_byte:prose"].dropna().to_list() == [0.5]
    assert list(frame)[: len(COLUMNS)] == list(COLUMNS)


def test_a_model_is_known_from_all_of_its_parts_only():
    assert ROW.model == (Shape(2, 16, 4, 40, 256, 2, True), None)
    assert replace(ROW, kv_heads=4, tied=False).model == (Shape(2, 16, 4, 40, 256), None)
    factorized = replace(ROW, **{f"rank_{name}": rank for name, rank in RANKS.items()})
    assert factorized.model == (Shape(2, 16, 4, 40, 256, 2, True), RANKS)
    for column in ("rank_down", "kv_heads", "tied", "vocab_size"):
        assert replace(factorized, **{column: None}).model is None


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("tied", "maybe", "not a number"),
        ("loss", "", "missing"),
        ("flops", "-1", "not positive"),
        ("lr", "inf", "finite"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(tmp_path: Path, column: str, value: str, what: str):
    write_runs(tmp_path / "runs.csv", [ROW])
    frame = pandas.read_csv(tmp_path / "runs.csv", dtype=str)
    frame[column] = value
    frame.to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(DataError, match=what) as caught:
        read_runs(tmp_path / "runs.csv")
    assert caught.value.where == f"{tmp_path / 'runs.csv'}:2: {column}"
