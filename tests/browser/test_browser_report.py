"""The committed reports in a real browser: Debian's Chromium, driven by Playwright; skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.project.table_report import report_of_table
from scaling.rows import read_runs, write_runs

RESULTS = Path(__file__).parents[2] / "results"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra [test])")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
FIRST_POINT = """(() => {
  const figure = document.querySelector("figure[data-hover]");
  const [x, y, text] = JSON.parse(figure.dataset.hover)[0];
  const point = new DOMPoint(x, y).matrixTransform(figure.querySelector("svg").getScreenCTM());
  return [point.x, point.y, text];
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=["quickstart", "rank-study"])
def report(request: pytest.FixtureRequest) -> str:
    return (RESULTS / request.param / "report.html").as_uri()


@pytest.fixture(scope="module")
def hard_reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three runs; and an unfinished sweep of six lines with long names in several scripts."""
    folder = tmp_path_factory.mktemp("hard")
    rows = read_runs(RESULTS / "quickstart" / "runs.csv")
    dense = [row for row in rows if row.line == "dense"]
    first, second, *_ = sorted({row.budget for row in dense})
    lines = ["密集", "低ランク_" + "非常に長い名前_" * 4 + "@0.25", "мышь", "a_name_" * 12 + "@0.125", "é", "low🙂@0.5"]
    many = [
        replace(
            row,
            id=f"{n}{row.id[1:]}",
            line=line,
            family=line,
            cell=str(row.cell).replace("dense", line, 1),
            loss=row.loss * (1 + 0.01 * n) if row.loss else None,
            status="completed" if row.budget < second * 1.1 else "running",
        )
        for n, line in enumerate(lines)
        for row in dense
    ]
    for name, chosen in (("three", [row for row in dense if row.budget == first][:3]), ("six", many)):
        (folder / name).mkdir()
        write_runs(folder / name / "runs.csv", chosen)
        assert not report_of_table(folder / name, None).failures
    return {name: (folder / name / "report.html").as_uri() for name in ("three", "six")}


def opened(browser: playwright.Browser, report: str, **context: object) -> playwright.Page:
    """The page of a report; every message of the console is kept in `page.told`."""
    page = browser.new_context(**context).new_page()
    page.told = []
    page.on("console", lambda message: page.told.append(message.text))
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else page.told.append(asked.url))
    page.goto(report)
    return page


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("kind", ["three", "six"])
def test_few_runs_and_long_names_of_any_script_fit(browser, hard_reports, kind, width) -> None:
    page = opened(browser, hard_reports[kind], viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("figure svg").count() >= 2
    assert page.told == []


@pytest.mark.parametrize("size", [(1200, 900), (390, 844)], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_have_a_size_and_nothing_is_cut_off(browser, report, size, scheme) -> None:
    width, height = size
    page = opened(browser, report, viewport={"width": width, "height": height}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(s => { const b = s.getBoundingClientRect();"
        " return [b.width, b.height, b.left, b.right]; })"
    )
    assert len(boxes) >= 4
    for wide, high, left, right in boxes:
        assert wide > 150
        assert high > 100
        assert left >= 0
        assert right <= width + 1
    back, ink = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    light = [sum(map(int, colour[4:-1].split(",")[:3])) for colour in (back, ink)]
    assert (light[0] > light[1]) == (scheme == "light")
    assert page.told == []


def test_panels_stack_on_a_phone(browser, report) -> None:
    shown = {}
    for width in (1200, 390):
        page = opened(browser, report, viewport={"width": width, "height": 844})
        figure = page.locator("figure[aria-label^='Each budget']").first
        shown[width] = figure.evaluate(
            """figure => [...figure.querySelectorAll("svg")].map(svg =>
              [svg.getBoundingClientRect().width / svg.viewBox.baseVal.width, svg.querySelectorAll("path").length])"""
        )
        assert page.told == []
    assert len(shown[1200]) == 1
    assert len(shown[390]) >= 2
    assert all(scale > 0.9 and paths > 10 for scale, paths in shown[390]), "letters as large as on a desktop"


def test_the_pointer_shows_the_value_of_the_point_under_it(browser, report) -> None:
    page = opened(browser, report, viewport={"width": 1200, "height": 900})
    figure = page.locator("figure[data-hover]").first
    figure.scroll_into_view_if_needed()
    x, y, text = page.evaluate(FIRST_POINT)
    page.mouse.move(x, y)
    assert page.locator(".tip").is_visible()
    assert page.locator(".tip").inner_text() == text
    page.mouse.click(x, y)
    assert "large" in (figure.get_attribute("class") or "")
    page.keyboard.press("Escape")
    assert "large" not in (figure.get_attribute("class") or "")
    assert page.told == []


def test_runs_are_sorted_by_a_click_and_show_their_curve(browser, report) -> None:
    page = opened(browser, report, viewport={"width": 1200, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    heads = page.locator("#runs-table th").all_inner_texts()
    column = next(n for n, head in enumerate(heads) if head.startswith("loss"))
    for direction in ("ascending", "descending"):
        page.locator("#runs-table th").nth(column).click()
        cells = page.locator(f"#runs-table tbody tr td:nth-child({column + 1})").all_inner_texts()
        losses = [float(cell.split()[0]) for cell in cells if cell[:1].isdigit()]
        assert len(losses) >= 16
        assert losses == sorted(losses, reverse=direction == "descending")
    page.locator("#runs-table tr.has-curve").first.click()
    assert page.locator("#runs-table tr.curve svg path").count() == 1
    assert page.told == []


def test_paper_has_everything_unfolded(browser, report, tmp_path) -> None:
    page = opened(browser, report)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
