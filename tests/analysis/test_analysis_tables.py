"""Foreign tables: every kind of column, unit, file and row that people have, each written here."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from table_cases import delimited, isoflop_rows, loss_of, perplexity, renamed, written

from scaling.analysis.table.reading import TableOptions
from scaling.analysis.table_reader import LoadedTable, load_table
from scaling.errors import DataError, ScalingError
from scaling.rows import RunRow, write_runs

ROWS = isoflop_rows()
DATA = Path(__file__).parents[3] / "shared" / "data"


def load(tmp_path: Path, text: str | bytes, name: str = "t.csv", **options: object) -> LoadedTable:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_table(path, TableOptions(**options))  # type: ignore[arg-type]


def points(table: LoadedTable) -> set[tuple[float, float, float]]:
    return {(row.params, row.tokens, round(row.final_loss, 9)) for row in table.rows}


def asked(tmp_path: Path, text: str, name: str = "t.csv", **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load(tmp_path, text, name, **options)
    return str(caught.value)


EXPECTED = {(row["params"], row["tokens"], round(row["loss"], 9)) for row in ROWS}
PLAIN = renamed(ROWS, budget="")


@pytest.mark.parametrize(
    ("params", "tokens", "loss"),
    [
        ("N", "D", "loss"),
        ("Parameters", "Tokens_Trained", "final_loss"),
        ("model size", "total tokens", "Val Loss"),
        ("n_params", "training_tokens", "eval/loss"),
        ("config.num_params", "summary.tokens_seen", "summary.val/cross_entropy"),
        ("numParams", "nTokens", "validation-loss"),
    ],
)
def test_names_of_the_field_are_recognised(tmp_path, params, tokens, loss):
    table = load(tmp_path, delimited(renamed(PLAIN, params=params, tokens=tokens, loss=loss)))
    assert points(table) == EXPECTED
    assert table.report.mapping == {"params": params, "tokens": tokens, "loss": loss}


def scaled_rows(**factors: float) -> list[dict[str, object]]:
    return [{k: v if k not in factors else v / factors[k] for k, v in row.items()} for row in PLAIN]


@pytest.mark.parametrize(
    ("names", "factors"),
    [
        ({"params": "Model Size (B)", "tokens": "Tokens [billions]"}, {"params": 1e9, "tokens": 1e9}),
        ({"params": "params_M", "tokens": "tokens_B"}, {"params": 1e6, "tokens": 1e9}),
        ({"params": "N (1e6)", "tokens": "D (10^9 tokens)"}, {"params": 1e6, "tokens": 1e9}),
    ],
)
def test_units_in_names(tmp_path, names, factors):
    assert points(load(tmp_path, delimited(renamed(scaled_rows(**factors), **names)))) == EXPECTED


@pytest.mark.parametrize(("name", "factor"), [("FLOPs (1E21)", 1e21), ("compute (PF-days)", 8.64e19), ("EFLOPs", 1e18)])
def test_tokens_follow_from_flops(tmp_path, name, factor):
    rows = [{"N": r["params"], name: 6 * r["params"] * r["tokens"] / factor, "loss": r["loss"]} for r in ROWS]
    table = load(tmp_path, delimited(rows))
    assert [row.tokens for row in table.rows] == pytest.approx([row["tokens"] for row in ROWS], rel=1e-12)
    assert "6 · N" in table.report.mapping["tokens"]


@pytest.mark.parametrize(
    ("name", "of_nats"),
    [
        ("ppl", perplexity),
        ("eval/perplexity", perplexity),
        ("val_bpb", lambda nats: nats / math.log(2)),
        ("bits_per_byte", lambda nats: nats / math.log(2)),
        ("loss (bits)", lambda nats: nats / math.log(2)),
    ],
)
def test_losses_become_nats_and_it_is_said(tmp_path, name, of_nats):
    rows = [row | {"loss": of_nats(row["loss"])} for row in PLAIN]
    table = load(tmp_path, delimited(renamed(rows, loss=name)))
    assert [row.loss for row in table.rows] == pytest.approx([row["loss"] for row in ROWS], rel=1e-12)
    assert "nats" in table.report.units[name]
    assert table.report.units[name] in table.report.lines()[0]


def test_a_perplexity_that_is_called_loss_is_asked_about(tmp_path):
    text = delimited([row | {"loss": perplexity(row["loss"])} for row in PLAIN])
    assert "--unit loss=ppl" in asked(tmp_path, text)
    assert points(load(tmp_path, text, units={"loss": "ppl"})) == EXPECTED


def test_flops_in_another_unit_are_refused_with_the_unit_that_explains_them(tmp_path):
    rows = [row | {"flops": 6 * row["params"] * row["tokens"] / 1e9} for row in PLAIN]
    assert "--unit flops=GFLOPs" in asked(tmp_path, delimited(rows))
    table = load(tmp_path, delimited(rows), units={"flops": "GFLOPs"})
    assert table.rows[0].flops == pytest.approx(6 * ROWS[0]["params"] * ROWS[0]["tokens"])


def test_sizes_in_millions_and_billions_are_refused_with_both_units(tmp_path):
    rows = [row | {"params": row["params"] / 1e6, "tokens": row["tokens"] / 1e9} for row in ROWS]
    assert "--unit params=M --unit tokens=B" in asked(tmp_path, delimited(rows))
    said = load(tmp_path, delimited(renamed(rows, budget=""))).report.notes
    assert any("--unit params=M" in note for note in said)
    assert any("--unit tokens=M" in note for note in said)


def test_two_counts_of_parameters_are_asked_about_and_both_kept(tmp_path):
    rows = [row | {"params_non_embedding": row["params"] - 5e6} for row in PLAIN]
    text = delimited(renamed(rows, params="params_total"))
    assert "--columns params=params_total" in asked(tmp_path, text)
    row = load(tmp_path, text, columns={"params": "params_total"}).rows[0]
    assert (row.params, row.params_non_embedding) == (ROWS[0]["params"], ROWS[0]["params"] - 5e6)


def test_two_losses_are_asked_about(tmp_path):
    text = delimited(renamed([row | {"pile_loss": row["loss"] + 0.1} for row in PLAIN], loss="c4_loss"))
    assert "--loss" in asked(tmp_path, text)
    assert load(tmp_path, text, loss="pile_loss").rows[0].loss == pytest.approx(ROWS[0]["loss"] + 0.1)


def test_one_loss_in_two_units_is_one_loss(tmp_path):
    table = load(tmp_path, delimited([{"ppl": perplexity(row["loss"])} | row for row in PLAIN]))
    assert table.report.mapping["loss"] == "loss"
    assert points(table) == EXPECTED


def test_rows_without_a_loss_are_dropped_and_listed(tmp_path):
    rows = [dict(row) for row in PLAIN]
    for at, value in ((1, ""), (3, "nan"), (5, "diverged"), (6, "inf"), (8, -1)):
        rows[at]["loss"] = value
    table = load(tmp_path, delimited(rows))
    assert len(table.rows) == len(ROWS) - 5
    assert [(one.row, one.column) for one in table.report.dropped] == [(at + 2, "loss") for at in (1, 3, 5, 6, 8)]
    assert "5 rows are left out" in "\n".join(table.report.lines())
    assert table.rows[1].id == "line 4"


def test_impossible_losses_are_named_and_left_out(tmp_path):
    rows = [dict(row) for row in PLAIN]
    rows[4]["loss"], rows[20]["loss"] = 3e-4, 2700.0
    dropped = load(tmp_path, delimited(rows)).report.dropped
    assert [one.row for one in dropped] == [6, 22]
    assert all("impossible" in one.reason for one in dropped)


def test_a_row_of_a_crashed_run_is_no_final_loss(tmp_path):
    rows = [row | {"State": "crashed" if n == 2 else "finished"} for n, row in enumerate(PLAIN)]
    assert [one.row for one in load(tmp_path, delimited(rows)).report.dropped] == [4]


def european(rows: list[dict[str, object]]) -> str:
    return delimited([{k: str(v).replace(".", ",") for k, v in row.items()} for row in rows], ";")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", delimited(PLAIN).encode("utf-8-sig")),
        ("t.CSV", delimited(PLAIN).encode("utf-16")),
        ("t.csv", delimited(PLAIN).encode("utf-16-le")),
        ("t.TSV", delimited(PLAIN, "\t").encode()),
        ("t.csv", delimited(PLAIN, "|").encode()),
        ("t.csv", european(PLAIN).encode()),
        ("t.csv", b"# made by hand\n\nsep=;\n" + delimited(PLAIN, ";").encode()),
        ("t.csv", delimited(PLAIN).replace("\n", ",\r\n").encode()),
        ("t.json", json.dumps(PLAIN).encode()),
        ("t.json", json.dumps({"runs": PLAIN, "made": "today"}).encode()),
        ("t.json", json.dumps({name: [row[name] for row in PLAIN] for name in PLAIN[0]}).encode()),
        ("t.JSONL", "\n".join(map(json.dumps, [{"schema": 2}, *PLAIN])).encode()),
        ("t.json", "\n".join(map(json.dumps, PLAIN)).encode()),
        ("t.jsonl", "\n".join(json.dumps({"config": {"params": r["params"]}, **r} | {"params": None}) for r in PLAIN)),
    ],
)
def test_every_kind_of_file_gives_the_same_points(tmp_path, name, content):
    if isinstance(content, str):
        content = content.replace('"params": null, ', "").encode()
    assert points(load(tmp_path, content, name)) == EXPECTED


def test_thousands_and_decimals_are_told_apart_by_the_file(tmp_path):
    text = "params;tokens;loss\n70.019.064;14.281.824.726;3,168\n108.938;9.179.525.134;3,080\n"
    table = load(tmp_path, text)
    assert points(table) == {(70019064, 14281824726, 3.168), (108938, 9179525134, 3.08)}


def test_a_folder_is_one_table_and_names_give_sizes(tmp_path):
    for row in PLAIN[:6]:
        text = f"step,tokens,val_loss\n1,{row['tokens'] // 2},4.0\n2,{row['tokens']},{row['loss']!r}\n"
        (tmp_path / f"{row['params'] / 1e6:.6f}M-1xC.csv").write_text(text)
    options = TableOptions(name_pattern=r"(?P<params>[\d.]+M)-\dxC", last_per="run")
    for place in (tmp_path, tmp_path / "*M-1xC.csv"):
        table = load_table(place, options)
        assert points(table) == {(row["params"], row["tokens"], round(row["loss"], 9)) for row in PLAIN[:6]}


def test_a_multiple_in_the_name_of_a_run_gives_tokens(tmp_path):
    options = {"name_pattern": r"(?P<params>\d+M)-(?P<mult>[\d.]+)xC"}
    table = load(tmp_path, "run,loss\n190M-1xC,3.1\n190M-5xC,2.9\n370M-0.5xC,3.0\n", **options)
    assert [(row.params, row.tokens) for row in table.rows] == [(1.9e8, 3.8e9), (1.9e8, 1.9e10), (3.7e8, 3.7e9)]


def test_a_chart_export_becomes_a_row_for_each_run_and_step(tmp_path):
    names = [f"{size}M - eval/loss{end}" for size in (70, 160) for end in ("", "__MIN", "__MAX")]
    text = ",".join(["tokens", *names]) + "\n1e9,4,4,4,3.8,3.8,3.8\n2e9,3.9,3.9,3.9,,,\n4e9,3.7,3.7,3.7,3.4,3.4,3.4\n"
    table = load(tmp_path, text, name_pattern=r"(?P<params>\d+M)")
    assert points(table) == {(7e7, 1e9, 4), (7e7, 2e9, 3.9), (7e7, 4e9, 3.7), (1.6e8, 1e9, 3.8), (1.6e8, 4e9, 3.4)}


def test_checkpoints_are_trunks_and_last_per_keeps_the_last(tmp_path):
    rows = [
        {"run": f"r{params:g}", "params": params, "tokens": tokens, "loss": loss_of(params, tokens)}
        for params in (1e8, 2e8, 4e8)
        for tokens in (1e9, 2e9, 4e9, 8e9)
    ]
    random.Random(0).shuffle(rows)
    table = load(tmp_path, delimited(rows))
    assert {row.trunk for row in table.rows} == {"r1e+08", "r2e+08", "r4e+08"}
    assert any("no final losses" in note for note in table.report.notes)
    last = load(tmp_path, delimited(rows), last_per="run")
    assert {(row.params, row.tokens) for row in last.rows} == {(n, 8e9) for n in (1e8, 2e8, 4e8)}
    assert all(row.trunk is None for row in last.rows)


def test_settings_of_any_name_are_tuned_within_a_cell(tmp_path):
    rows = [
        row | {"peak_lr": lr, "bs": bs, "loss": row["loss"] + abs(math.log(lr / 1e-3)) + abs(math.log(bs / 256))}
        for row in PLAIN
        for lr in (5e-4, 1e-3, 2e-3)
        for bs in (128, 256)
    ]
    from scaling.analysis.settings import Settings
    from scaling.analysis.study import study_rows

    table = load(tmp_path, delimited(rows))
    [line] = study_rows(table.rows, settings=Settings(bootstrap=0)).lines
    assert len(line.cells) == len(PLAIN)
    assert {cell.settings for cell in line.cells} == {6}
    assert line.law is not None
    assert line.law.fit.exponents["N"] == pytest.approx(0.513, abs=0.002)


def test_a_column_that_separates_repeated_points_is_asked_about(tmp_path):
    rows = [
        row | {"eval_set": name, "loss": row["loss"] + more}
        for name, more in (("c4", 0), ("wiki", 0.3))
        for row in PLAIN
    ]
    message = asked(tmp_path, delimited(rows))
    assert "eval_set" in message
    assert "--where \"eval_set == 'c4'\"" in message
    assert points(load(tmp_path, delimited(rows), where="eval_set == 'c4'")) == EXPECTED
    lines = load(tmp_path, delimited(rows), columns={"family": "eval_set"})
    assert {row.family for row in lines.rows} == {"c4", "wiki"}


@pytest.mark.parametrize("column", ["corpus", "Optimizer", "tokenizer", "method"])
def test_corpora_and_optimizers_are_lines(tmp_path, column):
    rows = [row | {column: name} for name in ("a", "b") for row in PLAIN]
    table = load(tmp_path, delimited(rows))
    assert {row.family for row in table.rows} == {"a", "b"}
    assert any(column in note for note in table.report.notes)


def test_a_column_of_models_is_a_run_only_where_steps_are(tmp_path):
    rows = [
        {
            "model": f"m{params:g}",
            "params": params,
            "tokens": tokens,
            "loss": loss_of(params, tokens),
            "step": tokens / 1e6,
        }
        for params in (1e8, 2e8, 4e8)
        for tokens in (1e9, 2e9, 4e9, 8e9)
    ]
    assert all(row.trunk is not None for row in load(tmp_path, delimited(rows)).rows)
    assert all(row.trunk is None for row in load(tmp_path, delimited(renamed(rows, step=""))).rows)
    two = [
        row | {"model": name, "loss": row["loss"] + more}
        for name, more in (("dense", 0), ("moe", 0.1))
        for row in PLAIN
    ]
    assert "--columns family=model" in asked(tmp_path, delimited(two))


def test_an_optional_column_without_numbers_is_not_used_and_an_empty_one_is_as_if_absent(tmp_path):
    rows = [row | {"budget": "small", "flops": ""} for row in PLAIN]
    table = load(tmp_path, delimited(rows))
    assert points(table) == EXPECTED
    assert "column budget is not used: it holds no numbers" in table.report.notes
    rows = [row | {"tokens": "", "flops": 6 * row["params"] * row["tokens"]} for row in PLAIN]
    assert "6 · params" in load(tmp_path, delimited(rows)).report.mapping["tokens"]


def test_words_in_brackets_count_unless_they_are_a_unit(tmp_path):
    rows = renamed(PLAIN, params="Parameters (non-embedding)", tokens="Tokens (training)", loss="Loss (val)")
    assert load(tmp_path, delimited(rows)).rows[0].params_non_embedding == ROWS[0]["params"]


def test_a_folder_of_results_is_its_runs_table(tmp_path, simulate):
    rows = simulate()
    write_runs(tmp_path / "runs.csv", rows)
    (tmp_path / "curves.csv").write_text("id,step,loss\na,1,3\n")
    assert load_table(tmp_path).rows == rows
    some = load_table(tmp_path, TableOptions(where=f"params_total > {rows[0].params_total}")).rows
    assert some == [row for row in rows if row.params_total > rows[0].params_total]


def test_repeated_tokens_are_never_silent(tmp_path):
    table = load(tmp_path, delimited([row | {"unique_tokens": 1e9} for row in PLAIN]))
    assert any("--law data_constrained" in note for note in table.report.notes)
    assert max(row.epochs for row in table.rows) == pytest.approx(max(row["tokens"] for row in PLAIN) / 1e9)


def test_a_text_where_nobody_asked_for_a_number_is_said(tmp_path):
    table = load(tmp_path, delimited([row | {"seed": "not recorded", "lr": "see config"} for row in PLAIN]))
    assert points(table) == EXPECTED
    assert sum("is not used" in note for note in table.report.notes) == 2


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("params > 2e8 and tokens < 1e10", lambda r: r["params"] > 2e8 and r["tokens"] < 1e10),
        ("not (budget in (6e18, 2e19)) or loss < 2.5", lambda r: r["budget"] not in (6e18, 2e19) or r["loss"] < 2.5),
        ("1e8 < N <= 6e8", lambda r: 1e8 < r["params"] <= 6e8),
        ("`tokens` / params >= 20", lambda r: r["tokens"] / r["params"] >= 20),
    ],
)
def test_where_is_what_python_says(tmp_path, expression, kept):
    rows = [row | {"N": row["params"]} for row in ROWS]
    wanted = {(row["params"], row["tokens"]) for row in ROWS if kept(row)}
    assert 0 < len(wanted) < len(ROWS)
    assert {(r.params, r.tokens) for r in load(tmp_path, delimited(rows), where=expression).rows} == wanted
    rest = load(tmp_path, delimited(rows), exclude=(expression,))
    assert {(r.params, r.tokens) for r in rest.rows} == {(r["params"], r["tokens"]) for r in ROWS} - wanted


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')",
        "params.real > 1",
        "params",
        "nothing > 1",
        "loss > 'a'",
        "(",
        "[1 for _ in loss]",
        "loss > 1e9",
    ],
)
def test_where_runs_no_code_and_says_what_it_takes(tmp_path, expression):
    rows = [row | {"params": f"{row['params']}"} for row in PLAIN]
    assert "--where" in asked(tmp_path, delimited(rows), where=expression)


def test_lines_can_be_excluded_by_number(tmp_path):
    assert len(load(tmp_path, delimited(PLAIN), exclude=("2,4",)).rows) == len(PLAIN) - 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_order_separator_and_units_change_nothing(tmp_path, data):
    """Any order of rows and columns, any separator, any suffix, any of the columns that may be missing."""
    rows = data.draw(st.permutations(ROWS))
    names = data.draw(st.permutations(["params", "tokens", "loss", *(["budget"] if data.draw(st.booleans()) else [])]))
    if "budget" in names and data.draw(st.booleans()):
        names.remove("tokens")
    units = {name: data.draw(st.sampled_from(["", "K", "M", "B", ","])) for name in ("params", "tokens")}
    separator = data.draw(st.sampled_from([",", ";", "\t", "|"]))
    texts = [
        {name: written(row[name], units[name]) if name in units else repr(row[name]) for name in names} for row in rows
    ]
    found = load(tmp_path, delimited(texts, separator)).rows
    for row, given_row in zip(found, rows, strict=True):
        assert row.params == given_row["params"]
        assert row.loss == given_row["loss"]
        assert row.tokens == pytest.approx(given_row["tokens"], rel=1e-7 if "tokens" not in names else 0)


ODD = [
    "",
    "nan",
    "-1",
    "0",
    "1e999",
    "-1e308",
    "text",
    "1,5",
    "5M",
    "7e9",
    "3.2",
    "TRUE",
    "None",
    "∞",
    "1e-320",
    "2 3",
    '"',
]
HEADERS = [
    "params",
    "N",
    "tokens",
    "D",
    "loss",
    "ppl",
    "val_bpb",
    "flops",
    "budget",
    "run",
    "seed",
    "lr",
    "corpus",
    "x",
    "",
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_table_is_read_or_refused_in_words(tmp_path, data):
    header = data.draw(st.lists(st.sampled_from(HEADERS), min_size=1, max_size=8))
    cell = st.one_of(st.sampled_from(ODD), st.text(max_size=6), st.integers().map(str), st.floats().map(repr))
    rows = data.draw(st.lists(st.lists(cell, min_size=len(header), max_size=len(header)), max_size=8))
    separator = data.draw(st.sampled_from(",;\t|"))
    text = "\n".join(separator.join(row) for row in [header, *rows])
    try:
        table = load(tmp_path, text.encode("utf-8", "replace"))
    except ScalingError as error:
        said = str(error)
    else:
        said = table.report.where
        assert all(math.isfinite(row.loss) and row.loss > 0 and row.params > 0 and row.tokens > 0 for row in table.rows)
    assert str(tmp_path) in said


def test_two_losses_of_which_one_is_next_to_zero_are_not_the_same_loss(tmp_path):
    """Their ratio is infinite; found by the test above."""
    with pytest.raises(ScalingError, match="several columns could be the loss"):
        load(tmp_path, b"params;tokens;loss;val_bpb\n1e6;1e7;1.5;1.5\n2e6;1e7;1e-320;1.5")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=4), st.sampled_from(ODD)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(HEADERS), inner, max_size=5)),
    max_leaves=30,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON, st.sampled_from(["t.json", "t.jsonl"]))
def test_a_document_is_read_or_refused_in_words(tmp_path, document, name):
    try:
        said = load(tmp_path, json.dumps(document), name).report.where
    except ScalingError as error:
        said = str(error)
    assert str(tmp_path) in said


def test_bytes_that_are_no_unicode_are_read_and_said(tmp_path):
    plain = delimited(renamed(ROWS, budget=""), ",")
    table = load(tmp_path, plain)
    assert not any("Windows-1252" in note for note in table.report.notes)
    header, rest = plain.split("\n", 1)
    lines = [f"{header},note", *(f"{line},\u00e9t\u00e9" for line in rest.splitlines() if line)]
    accented = load(tmp_path, "\n".join(lines).encode("cp1252"))
    assert points(accented) == points(table)
    assert any("Windows-1252" in note for note in accented.report.notes)


def test_a_packed_file_of_a_kind_that_is_not_read_packed_is_refused_by_its_kind(tmp_path):
    assert "unknown kind of table" in asked(tmp_path, "anything", name="t.parquet.gz")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["t.csv", "t.json", "t.jsonl", "t.parquet", "t.csv.gz", "t.xlsx"]))
def test_any_bytes_are_refused_in_words(tmp_path, content, name):
    with pytest.raises(ScalingError, match=r"t\."):
        load(tmp_path, content, name)


def test_a_table_of_ours_comes_back_as_it_was(tmp_path, simulate):
    rows = simulate()
    write_runs(tmp_path / "runs.csv", rows)
    table = load_table(tmp_path / "runs.csv")
    assert table.rows == rows
    assert all(type(row) is RunRow for row in table.rows)


def test_a_million_checkpoints_are_thinned_evenly():
    from scaling.analysis.table.row_kinds import spread

    runs = np.repeat(np.array(["a", "b"]), 5000)
    tokens = np.tile(np.arange(1, 5001) * 1e6, 2)
    kept = spread(runs, tokens, most=40)
    assert len(kept) <= 40
    assert {4999, 9999} <= set(kept.tolist())
    assert np.diff(np.log(tokens[kept[:10]]))[5:].std() < 0.1


@pytest.mark.skipif(not DATA.is_dir(), reason="the published tables lie beside the repository, in ../shared/data")
@pytest.mark.parametrize(
    ("name", "rows", "left_out"),
    [
        ("tables/cs336_isoflops_curves.json", 72, 0),
        ("tables/oellm_lr_gbsz_min_smooth.csv", 51, 0),
        ("tables/oellm_lr_min_smooth_excerpt.csv", 32, 7),
        ("tables/activesl_data_constrained_train.parquet", 161, 0),
        ("llama3_isoflop.csv", 133, 0),
        ("chinchilla_svg.csv", 245, 0),
    ],
)
def test_published_tables_are_read_as_they_are(name, rows, left_out):
    table = load_table(DATA / name)
    assert (len(table.rows), len(table.report.dropped)) == (rows, left_out)
