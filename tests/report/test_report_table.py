from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from scaling.report.table import Column, Significant, Table, decimals, fixed, latex_text

TABLE = Table(
    "minima",
    "Minima of low_rank@0.25",
    (
        Column("line", "line"),
        Column("n_opt", "N_opt", Significant()),
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


def shown(value: float | None, *intervals: tuple[float, float] | None) -> list[str]:
    columns = [Column("value", "value", Significant())]
    columns += [Column(f"interval_{n}", "95 %", Significant()) for n in range(len(intervals))]
    return Table("one", "One", tuple(columns), ((value, *intervals),)).shown[0]


def test_a_value_and_its_intervals_are_rounded_at_one_place():
    assert shown(0.1674, (0.06389, 0.2709)) == ["0.167", "[0.064, 0.271]"]
    assert shown(0.888, (0.713, 1.107)) == ["0.89", "[0.71, 1.11]"]
    assert shown(0.888, (0.713, 1.107), (0.4, 12.34)) == ["0.89", "[0.71, 1.1]", "[0.40, 12.3]"]
    assert shown(28_345.0, (9_890.0, 41_123.0)) == ["28.3k", "[9.9k, 41.1k]"]
    assert shown(950e3, (700e3, 1.3e6)) == ["950k", "[700k, 1.30M]"]
    assert shown(0.0, (0.0, 0.6641)) == ["0", "[0, 0.664]"]


def test_a_number_that_is_not_determined_is_not_shown():
    assert shown(208.4, (2.08e-11, 68.7e12)) == ["–", "not determined"]
    assert shown(208.4, (2.08e-11, 68.7e12), (200.0, 210.0)) == ["–", "not determined", "not determined"]
    assert shown(208.4, None) == ["208", "–"]
    assert shown(208.4, (float("nan"), float("nan"))) == ["208", "–"]
    assert shown(None, (1.0, 2.0)) == ["–", "[1, 2]"]


@given(st.lists(st.floats(1e-3, 1e14), min_size=3, max_size=3))
def test_rounding_together_moves_no_number_by_more_than_a_twentieth(numbers):
    low, value, high = sorted(numbers)
    for number, text in zip((value, low, high), Significant().together((value, low, high)), strict=True):
        scale = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}.get(text[-1], 1.0)
        assert abs(float(text.rstrip("kMBT")) * scale / number - 1) <= 0.05 + 1e-9


def test_a_narrow_interval_has_the_digits_that_tell_its_ends_apart():
    assert shown(1.7001, (1.6971, 1.7031)) == ["1.700", "[1.697, 1.703]"]
    assert shown(1.7, (1.7, 1.7)) == ["1.70", "[1.70, 1.70]"]
    assert (decimals(0.4499, 0.4521), decimals(0.2, 0.9), decimals(0.5, 0.5)) == (3, 2, 2)
