"""The files that describe the project agree with each other and with the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

import scaling

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text())
# Citation File Format 1.2.0: the keys of a file, of an entity and of a person that this project may use.
CFF_REQUIRED = {"cff-version", "message", "title", "authors"}
CFF_KEYS = {*CFF_REQUIRED, "type", "version", "license", "abstract", "keywords", "references", "date-released", "url"}
CFF_AUTHOR = {"name", "family-names", "given-names", "orcid", "affiliation"}
CFF_REFERENCE = {"type", "title", "authors", "year", "identifiers", "url", "doi"}


def test_one_version_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert scaling.__version__ == version
    assert CITATION["version"] == version
    assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_citation_file_has_the_form_of_its_schema() -> None:
    assert set(CITATION) >= CFF_REQUIRED
    assert set(CITATION) <= CFF_KEYS
    assert (CITATION["cff-version"], CITATION["type"]) == ("1.2.0", "software")
    for reference in CITATION["references"]:
        assert {"type", "title", "authors"} <= set(reference) <= CFF_REFERENCE
        assert all(set(one) == {"type", "value", "description"} for one in reference["identifiers"])
    authors = [*CITATION["authors"], *(author for one in CITATION["references"] for author in one["authors"])]
    assert all(author and set(author) <= CFF_AUTHOR for author in authors)


def test_one_licence_everywhere() -> None:
    assert CITATION["license"] == PROJECT["project"]["license"] == "Apache-2.0"
    text = (ROOT / PROJECT["project"]["license-files"][0]).read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_workflow_tests_every_version_that_is_promised() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == promised
    assert PROJECT["project"]["requires-python"] == f">={promised[0]}"


def test_the_hooks_are_programs_of_the_environment() -> None:
    hooks = [
        hook
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]
    makefile = (ROOT / "Makefile").read_text()
    for hook in hooks:
        assert hook["entry"].split()[0].replace(".venv/bin", "$(BIN)") in makefile


def test_the_marker_of_types_is_package_data() -> None:
    assert (ROOT / "scaling/py.typed").read_text() == ""
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["scaling"]
