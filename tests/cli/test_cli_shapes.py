"""Shapes with shared key-value heads and tied embeddings go through every verb like any other."""

from __future__ import annotations

import csv

import pytest

from scaling.run import Shape
from scaling.sweeps.counting import count, matrix_ranks, training_flops

SHARED = """\
sweep: shared
question: Are shared key-value heads and tied embeddings counted like any other shape?
data: {corpus: python-stdlib, tokenizer: bytes, validation_tokens: 4k}
grid:
  kind: isoflop
  budgets: [7e7, 1.4e8, 2.8e8]
  ladder:
    - {layers: 1, width: 8, heads: 4, kv_heads: 1, ff_width: 24, tied: true}
    - {layers: 1, width: 12, heads: 2, kv_heads: 1, ff_width: 32, tied: true}
    - {layers: 1, width: 16, heads: 4, kv_heads: 2, ff_width: 40, tied: true}
    - {layers: 2, width: 16, heads: 4, kv_heads: 2, ff_width: 40}
  sizes: all
families:
  dense: {parameterization: dense, optimizer: muon, lr: 0.02}
  low_rank:
    {parameterization: low_rank, optimizer: spectron, lr: 0.05, other_lr: 0.02, rank_ratio: 0.25, rank_of: min}
training:
  sequence_length: 32
  batch_tokens: 32
analysis: {bootstrap: 50, predict: [1e10], devices: [cpu]}
"""
SWEEP = "sweeps/shared.yaml"


@pytest.fixture(scope="module")
def shared(a_project, tmp_path_factory):
    scaling = a_project(tmp_path_factory.mktemp("shared"))
    (scaling.root / SWEEP).write_text(SHARED)
    scaling.told = scaling("launch", SWEEP, "--yes").stderr
    return scaling


def rows(scaling) -> list[dict[str, str]]:
    with (scaling.root / "results" / "shared" / "runs.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_whole_shape_of_every_run(shared):
    assert "exact FLOPs" in shared.told
    assert "6·N·D" not in shared.told
    for row in rows(shared):
        kv_heads = None if row["kv_heads"] == row["heads"] else int(row["kv_heads"])
        tied = True if row["tied"] == "True" else None
        sizes = (int(row[name]) for name in ("layers", "width", "heads", "ff_width", "vocab_size"))
        shape = Shape(*sizes, kv_heads, tied)
        ranks = matrix_ranks(shape, 0.25, "min") if row["rank_ratio"] else None
        assert (row["rank_of"], row["rank_k"]) == (("min", str(ranks["k"])) if ranks else ("", ""))
        assert int(row["params_total"]) == count(shape, ranks).params_total
        flops = training_flops(shape, ranks, sequence_length=32, tokens=int(row["tokens"]))
        assert float(row["flops"]) == pytest.approx(flops)


def test_fit_predict_and_compare_count_exactly_and_price_every_line(shared):
    assert {fit["status"] for fit in shared.json("fit", SWEEP)["fits"] if fit["approach"] == 3} <= {"ok", "at_bound"}
    assert len(shared.json("predict", SWEEP)["predictions"]) == 2
    document = shared.json("compare", SWEEP)
    assert {one["axis"] for one in document["differences"]} >= {"exact", "6ND"}
    assert {row["line"] for one in document["comparisons"] for row in one["rows"]} == {"dense", "low_rank@0.25"}
    assert "not_priced" not in {check["code"] for check in document["checks"]}


def test_losses_of_evaluate_are_collected(shared):
    text = shared.root / "letters.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n\n" * 400)
    told = shared.json("evaluate", SWEEP, "--data", str(text))["evaluations"]
    shared("collect", SWEEP)
    found = {row["id"]: (row["loss:letters"], row["loss_per_byte:letters"]) for row in rows(shared)}
    assert found == {one["id"]: (str(one["loss"]), str(one["loss_per_byte"])) for one in told}
    assert "report.html" in shared("report", SWEEP).stderr
