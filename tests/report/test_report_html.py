from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest

from scaling import checks as checks_of
from scaling.analysis.study import study_rows
from scaling.checks import RANK_SAVES_NOTHING
from scaling.report import html as html_page
from scaling.report import tables
from scaling.report.attempts import Attempts, Failure
from scaling.report.checklist import checklist
from scaling.report.figures import FIGURES
from scaling.report.figures import serving as serving_figure
from scaling.report.grouped_checks import grouped
from scaling.report.html import Context, write_page
from scaling.report.run_list import CURVE_POINTS
from scaling.report.summary import answer
from scaling.report.tables import TABLES
from scaling.rows import CellKey, DroppedCell

QUESTION = "Does <low rank> reach a lower loss?"


@pytest.fixture(scope="module")
def made(simulate, settings, tmp_path_factory):
    rows = simulate()
    rows[4] = replace(rows[4], **{"status": "diverged", "loss": None})
    rows[20] = replace(rows[20], **{"status": "failed", "loss": None})
    study = study_rows(rows, settings=settings)
    context = Context(
        "toy",
        QUESTION,
        commands=["scaling launch sweeps/toy.yaml --yes", "scaling report sweeps/toy.yaml"],
        plan_dropped=[DroppedCell(CellKey("dense", "2e+10", "d128L6"), "fewer than 100 steps")],
        plan_checks=[RANK_SAVES_NOTHING("down keeps all of its parameters")],
        messages={rows[20].id: "the worker was killed by signal 9"},
        facts=[("code version", "abc123")],
    )
    folder = tmp_path_factory.mktemp("report")
    return study, rows, write_page(study, folder, context).page, context


def words(page):
    body = page.split("<body>", 1)[1]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<svg.*?</svg>|<[^>]+>", " ", body, flags=re.DOTALL)))


def test_the_first_paragraph_is_the_answer(made):
    study, _, path, _ = made
    page = path.read_text()
    first = re.search(r"<p[^>]*>(.*?)</p>", page, re.DOTALL).group(1)
    assert html.unescape(first) == answer(study)[0]
    assert html.escape(QUESTION) in page
    assert QUESTION not in page


def test_the_page_needs_nothing_from_outside(made):
    page = made[2].read_text()
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(", page)
    assert "@import" not in page
    assert "url(http" not in page
    assert page.count("<figure ") == 9
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_ids_of_the_drawings_do_not_clash(made):
    """Clip paths of one drawing must not cut another; equal glyphs may repeat."""
    page = made[2].read_text()
    clips = re.findall(r'<clipPath id="([^"]+)"', page)
    assert clips
    assert len(clips) == len(set(clips))


def test_every_run_that_is_no_point_is_listed_with_its_reason(made):
    _, rows, path, _ = made
    told = words(path.read_text())
    assert re.search(rows[4].id + r" dense diverged", told)
    assert re.search(rows[20].id + r" \S+ failed the worker was killed by signal 9", told)
    assert "dense/2e+10/d128L6 fewer than 100 steps" in told
    for sentence in ("down keeps all of its parameters", "scaling report sweeps/toy.yaml", "code version", "abc123"):
        assert sentence in told


def test_figures_and_tables_lie_beside_it(made):
    folder = made[2].parent
    names = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert names == {
        "difference", "rank", "isoflop", "optima", "frontier", "surface", "fit", "uncertainty", "serving"
    }  # fmt: skip
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".svg", ".png", ".pdf"}
    assert (folder / "tables" / "minima.tex").is_file()


def test_the_same_study_gives_the_same_page(made, tmp_path):
    study, _, path, context = made
    again = write_page(study, tmp_path, context).page
    assert again.read_bytes() == path.read_bytes()


def test_two_budgets_without_an_optimum_still_have_a_report(simulate, settings, tmp_path):
    rows = [row for row in simulate() if row.line == "dense" and row.budget < 1e11]
    small = [row for row in rows if row.params_matmul <= 7.1e3]  # every loss falls with N: no valley, no law
    study = study_rows(small, settings=replace(settings, law="joint"))
    page = write_page(study, tmp_path, Context("two", "Why not?")).page
    told = words(page.read_text())
    assert "dense has no law" in told
    assert "No law joint over all lines:" in told
    assert page.read_text().count("<figure ") == 2


def test_a_single_line_still_has_a_report(simulate, settings, tmp_path):
    rows = [row for row in simulate() if row.line == "low_rank@0.5"]
    study = study_rows(rows, settings=settings)
    page = write_page(study, tmp_path, Context("one", "What is the law?")).page
    told = words(page.read_text())
    assert "low_rank@0.5 has no law: parameters and tokens move together" in told
    assert page.read_text().count("<figure ") == 3


def _fail(*_):
    raise ZeroDivisionError("no <axis> to draw on")


def test_a_figure_and_a_table_that_fail_are_named_and_the_rest_is_written(simulate, settings, tmp_path, monkeypatch):
    broken = [replace(figure, draw=_fail) if figure.name == "optima" else figure for figure in FIGURES]
    monkeypatch.setattr(html_page, "FIGURES", tuple(broken))
    monkeypatch.setitem(TABLES, "fits", _fail)
    rows = [row for row in simulate() if row.line == "dense"]
    written = write_page(study_rows(rows, settings=replace(settings, bootstrap=0)), tmp_path, Context("toy", QUESTION))
    reason = "ZeroDivisionError: no <axis> to draw on"
    assert written.failures == (Failure("table fits", reason), Failure("figure optima", reason))
    told = words(written.page.read_text())
    assert "What could not be made" in told
    assert f"table fits: {reason}" in told
    assert f"figure optima: {reason}" in told
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        "isoflop", "frontier", "surface", "fit", "serving"
    }  # fmt: skip
    assert {path.stem for path in (tmp_path / "tables").iterdir()} >= {"minima", "exponents", "serving", "cells"}
    assert not list((tmp_path / "tables").glob("fits.*"))


def test_serving_that_fails_leaves_a_page_without_prices(simulate, settings, tmp_path, monkeypatch):
    for module in (html_page, tables, serving_figure):
        monkeypatch.setattr(module, "serving", _fail)
    rows = [row for row in simulate() if row.line == "dense"]
    written = write_page(study_rows(rows, settings=replace(settings, bootstrap=0)), tmp_path, Context("toy", QUESTION))
    assert [failure.part for failure in written.failures] == ["figure serving", "table serving", "checks of serving"]
    assert written.page.read_text().count("<figure ") == 5


def test_an_interrupt_is_no_failed_part():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Attempts(lambda words: None).make("figure frontier", interrupted)


def test_of_a_long_table_the_page_shows_the_first_rows_and_the_file_has_all(made, tmp_path, monkeypatch):
    study, _, _, context = made
    monkeypatch.setattr(html_page, "PAGE_ROWS", 5)
    page = write_page(study, tmp_path, context).page
    cells = next(table for name, table in TABLES.items() if name == "cells")(study)
    assert len(cells.rows) > 5
    assert f"The first 5 of {len(cells.rows)} rows" in words(page.read_text())
    assert len((tmp_path / "tables" / "cells.csv").read_text().splitlines()) == len(cells.rows) + 1
    body = page.read_text().split('id="data"', 1)[1]
    assert body.split("</table>", 1)[0].count("<tr>") == 5 + 1


def test_cells_that_the_plan_left_out_are_a_table_too(made):
    path = made[2].parent / "tables" / "plan_dropped.csv"
    assert "fewer than 100 steps" in path.read_text()


def test_checks_of_one_code_are_one_item_that_names_its_lines(made):
    study = made[0]
    names = [line.name for line in study.lines]
    checks = [checks_of.FEW_POINTS(f"{name}: few points") for name in names] + [checks_of.NO_LAW("dense: no law")]
    groups = grouped(checks, names)
    assert sorted(group.code for group in groups) == ["few_points", "no_law"]
    several = next(group for group in groups if group.code == "few_points")
    assert len(several.messages) == len(names)
    assert all(name in several.sentence for name in names)
    assert next(group for group in groups if group.code == "no_law").sentence == "dense: no law"


def test_every_question_of_the_checklist_has_an_answer(made):
    sections = checklist(made[0])
    assert [title for title, _ in sections] == ["The law", "The training setup", "The data points", "The fit"]
    answers = {question: reply for _, items in sections for question, reply in items}
    assert all(reply and "None" not in reply and "nan" not in reply for reply in answers.values())
    assert answers["How parameters are counted"] == "params_matmul"
    told = words(made[2].read_text())
    assert all(html.unescape(question) in told for question in answers)


def test_the_page_holds_the_curves_of_the_folder(made, tmp_path):
    study, _, _, context = made
    row = study.lines[0].cells[0].rows[0]
    head = "id,line,cell,seed,step,tokens,loss,lr,grad_norm,matrix_norm,update_norm_over_lr,device_seconds"
    points = [f"{row.id},dense,{row.cell},0,{n},{n * 100},{4 - n / 50},0.1,,,,{n}" for n in range(1, 151)]
    (tmp_path / "curves.csv").write_text("\n".join([head, *points]) + "\n")
    page = write_page(study, tmp_path, context).page.read_text()
    curves = json.loads(re.search(r'id="curves">(.*?)</script>', page).group(1))
    tokens, losses = curves[row.id]
    assert (tokens[0], tokens[-1], losses[-1]) == (100, 15000, 1.0)
    assert len(tokens) == len(losses) <= CURVE_POINTS + 1
    assert json.loads(re.search(r'id="curves">(.*?)</script>', made[2].read_text()).group(1)) == {}
