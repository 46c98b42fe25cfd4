from __future__ import annotations

import csv
import io

from scaling.report.table import Column, Table, fixed, latex_text, significant

TABLE = Table(
    "minima",
    "Minima of low_rank@0.25",
    (
        Column("line", "line"),
        Column("n_opt", "N_opt", significant()),
        Column("loss_nats", "loss", fixed(3)),
        Column("loss_interval", "95 %", fixed(2)),
    ),
    (("low_rank@0.25", 28345.6789, 1.75, (1.7, 1.8)), ("a|b", None, -0.5, None)),
    note="100 % of it",
)


def test_markdown_is_golden():
    assert TABLE.markdown() == (
        "**Minima of low_rank@0.25**\n"
        "\n"
        "| line          | N_opt |   loss |         95 % |\n"
        "| ------------- | ----: | -----: | -----------: |\n"
        "| low_rank@0.25 | 28.3k |  1.750 | [1.70, 1.80] |\n"
        "| a\\|b          |     – | −0.500 |            – |\n"
        "\n"
        "100 % of it\n"
    )


def test_csv_keeps_every_digit_and_splits_intervals():
    header, *rows = csv.reader(io.StringIO(TABLE.csv()))
    assert header == ["line", "n_opt", "loss_nats", "loss_interval_low", "loss_interval_high"]
    assert rows[0] == ["low_rank@0.25", "28345.6789", "1.75", "1.7", "1.8"]
    assert rows[1] == ["a|b", "", "-0.5", "", ""]


def test_a_data_frame_has_the_same_columns():
    frame = TABLE.frame()
    assert list(frame.columns) == TABLE.flat()[0]
    assert frame["n_opt"].iloc[0] == 28345.6789


def test_latex_escapes_and_balances():
    assert latex_text("a_b & 5 % of {x} ~ α") == r"a\_b \& 5 \% of \{x\} \textasciitilde{} $\alpha$"
    text = TABLE.latex()
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert r"low\_rank@0.25 & 28.3k & $-$" not in text
    assert r"low\_rank@0.25 & 28.3k & 1.750 & [1.70, 1.80] \\" in text


def test_write_gives_three_files(tmp_path):
    assert [path.name for path in TABLE.write(tmp_path)] == ["minima.csv", "minima.md", "minima.tex"]
    assert (tmp_path / "minima.csv").read_text() == TABLE.csv()
