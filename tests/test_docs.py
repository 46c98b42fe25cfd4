"""The generated pages of docs/ say what the code says today, and every key is described."""

from __future__ import annotations

import ast
import html
import importlib
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaling.runners.runner_file import Runner
from scaling.sweeps.schema import Sweep

ROOT = Path(__file__).parent.parent
GENERATE: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "generate.py"))


@pytest.mark.parametrize("name", GENERATE["PAGES"])
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == GENERATE["PAGES"][name](), "run `make docs`"


@pytest.mark.parametrize("root", [Sweep, Runner])
def test_every_key_is_described_in_one_line(root: type[Any]) -> None:
    assert GENERATE["undescribed"](root) == []


def test_every_column_is_described() -> None:
    assert GENERATE["undescribed_columns"]() == []


def test_blocks_are_found_in_lists_mappings_and_unions() -> None:
    found = GENERATE["blocks"](Sweep)
    paths = {path: block.__name__ for block, places in found.items() for path in places}
    assert paths["grid.points[].shape"] == paths["grid.ladder[]"] == "ShapeSpec"
    assert paths["grid.ladder.rule"] == "LadderRule"
    assert paths["families.NAME"] == "Family"
    assert paths["analysis.claims[]"] == "Claim"
    assert [places for block, places in found.items() if block.__name__.endswith("Grid")] == [["grid"]] * 3


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("Count | None", "whole number ≥ 1"),
        ("Annotated[Count, Field(ge=2, le=2**10)]", "whole number ≥ 2, ≤ 1,024"),
        ("OneOrMore[Ratio] | None", "number > 0, ≤ 1, or a list"),
        ("recipe_or('lr', OneOrMore[Positive])", "number > 0, or a list, or a recipe"),
        ("either(_word('smallest', 'largest'), Positive)", "`smallest`, `largest` or number > 0"),
        ("dict[Name, Family]", "block of name: block"),
        ("Literal['exact', '6ND']", "`exact`, `6ND`"),
    ],
)
def test_what_a_value_may_be_in_words(written: str, words: str) -> None:
    assert GENERATE["in_words"](ast.parse(written, mode="eval").body) == words


def test_code_cites_headings_of_this_repository() -> None:
    headings = set(re.findall(r"^## (.+)$", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"), re.M))
    cited, elsewhere = set(), []
    for path in (path for folder in ("scaling", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        cited |= set(re.findall(r'docs/design\.md, "([A-Z][^"]+)"', text))
        elsewhere += [str(path)] if re.search(r"\bDESIGN\b(?! *=)", text) and path.name != "test_docs.py" else []
    assert cited <= headings
    assert not elsewhere, "a page that is not in this repository is cited"


def test_the_design_page_has_the_levels_that_are_checked() -> None:
    levels = runpy.run_path(str(ROOT / "tests" / "test_levels.py"))["LEVELS"]
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"), re.M)
    assert {name: int(level) for level, names in rows for name in re.findall(r"`(\w+)`", names)} == levels


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_notebook_has_the_cells_of_the_tutorial_and_their_output():
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    script = re.split(
        r"^# %%(?: \[markdown\])?\n", (ROOT / "analysis" / "tutorial.py").read_text(encoding="utf-8"), flags=re.M
    )
    code = [part.strip() for part in script[1:] if not part.startswith("# ")]
    assert ["".join(cell["source"]).strip() for cell in cells if cell["cell_type"] == "code"] == code
    assert all(cell["outputs"] for cell in cells if cell["cell_type"] == "code")


def test_the_site_lists_every_page():
    listed = {page for entry in yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"] for page in entry.values()}
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_every_function_that_numbers_names_exists():
    """docs/numbers.md names each as module.name or module.Class.method below `scaling`."""
    rows = [line.split("|")[-2] for line in (ROOT / "docs" / "numbers.md").read_text().splitlines() if "`" in line]
    named = [name for cell in rows for name in re.findall(r"`([a-z_]+(?:\.[A-Za-z_]+)+)`", cell)]
    assert len(named) > 15
    for name in named:
        parts = name.split(".")
        for split in range(len(parts), 0, -1):
            try:
                place = importlib.import_module("scaling." + ".".join(parts[:split]))
            except ModuleNotFoundError:
                continue
            for part in parts[split:]:
                place = getattr(place, part)
            break
        else:
            raise AssertionError(name)


@pytest.mark.parametrize("study", ["rank-study", "quickstart"])
def test_the_readme_quotes_the_answer_of_the_report(study: str) -> None:
    page = (ROOT / "results" / study / "report.html").read_text(encoding="utf-8")
    answer = html.unescape(re.search(r'<p class="answer">(.*?)</p>', page)[1])
    readme = re.sub(r"\n> ", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert answer in readme
