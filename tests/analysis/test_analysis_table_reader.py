from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from scaling.analysis.table_reader import read_table
from scaling.errors import DataError
from scaling.rows import write_runs

GOOD = "params,tokens,loss\n1e6,2e7,3.5\n2000000,4e7,3.25\n"


def table(tmp_path: Path, text: str, name: str = "runs.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_csv_of_three_columns_is_enough(tmp_path):
    rows = read_table(table(tmp_path, GOOD))
    assert [(r.params, r.tokens, r.loss) for r in rows] == [(1e6, 2e7, 3.5), (2e6, 4e7, 3.25)]
    assert rows[0].family is None
    assert rows[0].budget is None


def test_all_three_kinds_of_file_give_the_same_rows(tmp_path):
    values = [
        {"params": 1e6, "tokens": 2e7, "loss": 3.5, "family": "low_rank", "rank_ratio": 0.25, "seed": 1},
        {"params": 2e6, "tokens": 4e7, "loss": 3.25, "family": "dense", "rank_ratio": None, "seed": 1},
    ]
    frame = pandas.DataFrame(values)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, values)) + "\n\n")
    csv, parquet, lines = (read_table(tmp_path / f"t.{kind}") for kind in ("csv", "parquet", "jsonl"))
    assert csv == parquet == lines
    assert csv[1].rank_ratio is None


def test_columns_can_be_named(tmp_path):
    path = table(tmp_path, "N,D,final\n1,2,3\n")
    rows = read_table(path, columns={"params": "N", "tokens": "D", "loss": "final"})
    assert (rows[0].params, rows[0].tokens, rows[0].loss) == (1, 2, 3)


def test_a_chosen_column_stands_before_one_that_has_our_name(tmp_path):
    path = table(tmp_path, "N,params,tokens,loss\n1,7,2,3\n")
    assert read_table(path, columns={"params": "N"})[0].params == 1


def test_our_own_table_round_trips(tmp_path, simulate):
    rows = simulate()
    rows[3] = replace(rows[3], **{"status": "failed", "loss": None})
    write_runs(tmp_path / "runs.csv", rows)
    again = read_table(tmp_path / "runs.csv")
    assert again == rows


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("params,tokens\n1,2\n", "runs.csv", "no column loss"),
        ("", "runs.csv", "no rows"),
        ("params,tokens,loss\n", "runs.csv", "no rows"),
        ("params,tokens,loss\n1,2,nan\n1,2,\n", "runs.csv:2: loss", "not finite"),
        ("params,tokens,loss\n1,2,inf\n", "runs.csv:2: loss", "not finite"),
        ("params,tokens,loss\n1,2,\n", "runs.csv:2: loss", "missing"),
        ("params,tokens,loss\n1,-2,3\n", "runs.csv:2: tokens", "not positive"),
        ("params,tokens,loss\n0,2,3\n", "runs.csv:2: params", "not positive"),
        ("params,tokens,loss\nsmall,2,3\n", "runs.csv:2: params", "not a number"),
        ("params,tokens,loss\n1,2,3,4\n", "runs.csv:2", "another number of cells"),
        ("params,tokens,loss\n1,2\n", "runs.csv:2", "another number of cells"),
        ("params,tokens,loss,loss\n1,2,3,4\n", "runs.csv", "several columns could be the loss"),
        ("params,tokens,loss,budget\n1,2,3,-1\n", "runs.csv:2: budget", "not positive"),
    ],
)
def test_bad_values_name_the_row_and_the_column(tmp_path, text, where, what):
    with pytest.raises(DataError) as caught:
        read_table(table(tmp_path, text))
    assert what in caught.value.what
    assert caught.value.where.endswith(where)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"params": 1\n'),
        ("a.jsonl", b"[1]\n"),
        ("a.parquet", b"PAR1"),
        ("a.csv", b"\xff\xfex"),
        ("a.rtf", b"x"),
    ],
)
def test_unreadable_files_say_so(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"JSON|Parquet|cannot be read|object|kind"):
        read_table(tmp_path / name)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(DataError, match="no such table"):
        read_table(tmp_path / "nothing.csv")
