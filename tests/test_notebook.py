"""What a person in a notebook sees and gets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import scaling
from scaling.errors import DataError
from scaling.project.notebook import Loaded
from scaling.report.summary import answer

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def loaded(study, tmp_path_factory) -> Loaded:
    return Loaded(study, tmp_path_factory.mktemp("folder"))


def test_a_study_is_ten_lines_of_text_and_an_answer_with_one_figure(loaded):
    assert len(repr(loaded).splitlines()) <= 10
    assert all(len(line) <= 110 for line in repr(loaded).splitlines())
    assert len(repr(loaded.study)) < 300
    page = loaded._repr_html_()
    assert page.count("<svg") == 1
    assert answer(loaded.study)[0].split(":")[0] in page


def test_tables_are_data_frames(loaded):
    assert len(loaded.runs) == sum(len(line.points) for line in loaded.study.lines)
    assert len(loaded.cells) == len(loaded.study.cells)
    assert {"line", "multiplier", "verdict"} <= set(loaded.comparisons.columns)
    assert {"line", "budget"} <= set(loaded.optima.columns)
    assert isinstance(loaded.fits, pd.DataFrame)
    found = loaded.predict([1e12, 1e13])
    assert list(found.compute.unique()) == [1e12, 1e13]
    assert (found.N > 0).any()
    decided = loaded.compare(served=1e9, device="h100", batch=8)
    assert {"ratio", "ratio_interval_low", "verdict"} <= set(decided.columns)


def test_a_law_prints_as_the_command_line_does(loaded):
    assert str(loaded.laws["dense"]).startswith("Law chinchilla: L = E + A/N^alpha + B/D^beta")


def test_figures_go_into_an_axes_or_stand_alone(loaded):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert loaded.plot.isoflop("low_rank@0.25", ax=ax) is ax
    assert ax.get_title() == "low_rank@0.25"
    assert loaded.plot.difference(ax=Figure().subplots()).get_ylabel().startswith("loss minus dense")
    assert len(loaded.plot.figure("rank").axes) == 4


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda one: one.plot.isoflop("sparse"), "low_rank@0.25"),
        (lambda one: one.plot.figure("nothing"), "isoflop"),
        (lambda one: one.table("nothing"), "minima"),
        (lambda one: one.curves, "--records"),
    ],
)
def test_what_is_not_there_says_what_is(loaded, what, words):
    with pytest.raises(DataError, match=words):
        what(loaded)


def test_load_reads_a_folder_with_its_sweep_and_a_table(tmp_path):
    folder = scaling.load(ROOT / "results" / "quickstart-tuning")
    assert folder.study.settings.params_column == "params_matmul"
    assert {"tokens", "loss"} <= set(folder.curves.columns)
    with pytest.raises(DataError, match="scaling collect"):
        scaling.load(tmp_path)
