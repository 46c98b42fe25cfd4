"""The registry of check codes: each code once, each emitted, and no check that is not of the registry."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from scaling import checks
from scaling.checks import CODES, FEW_STEPS, MIN_STEPS, NO_LAW, Check, CheckCode, Severity, Threshold, by_severity

ROOT = Path(__file__).parent.parent
REGISTRY = ROOT / "scaling" / "checks.py"
NAMES = {name: one for name, one in vars(checks).items() if isinstance(one, CheckCode)}


def references(tree: ast.AST) -> Counter[str]:
    """How often `checks.NAME` stands in a module, or `NAME` where it was imported from the registry."""
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "scaling.checks"
        for alias in node.names
    }
    of_codes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "code"}
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if id(node) in of_codes:  # `checks.NAME.code` compares with a check, it emits none
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "checks":
            found[node.attr] += 1
        elif isinstance(node, ast.Name) and node.id in imported:
            found[node.id] += 1
    return found


def by_hand(tree: ast.AST) -> Iterator[str]:
    """Checks and codes made without the registry, and codes written as bare strings, as `line: what`."""
    codes = {one.code for one in CODES}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if name in ("Check", "CheckCode"):
                yield f"{node.lineno}: {name}(...)"
        if isinstance(node, ast.Constant) and node.value in codes:
            yield f"{node.lineno}: {node.value!r}"


def empty_messages(tree: ast.AST) -> Iterator[int]:
    """Lines that emit a code of the registry without a message."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in NAMES:
            (message,) = node.args
            if isinstance(message, ast.Constant) and not str(message.value).strip():
                yield node.lineno


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "scaling").rglob("*.py")):
        if path != REGISTRY:
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def test_a_code_is_the_name_of_its_constant_and_stands_once() -> None:
    assigned = [
        target.id
        for node in ast.parse(REGISTRY.read_text()).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert [name for name, count in Counter(assigned).items() if count > 1] == []
    assert {name: one.code.upper() for name, one in NAMES.items()} == {name: name for name in NAMES}
    assert set(NAMES.values()) == set(CODES)


def test_every_code_and_every_threshold_is_used() -> None:
    used = sum((references(tree) for _, tree in trees()), Counter[str]())
    thresholds = {name for name, one in vars(checks).items() if isinstance(one, Threshold)}
    assert {name for name in {*NAMES, *thresholds} if not used[name]} == set()
    assert {name for name in thresholds if not any(vars(checks)[name] in one.thresholds for one in CODES)} == set()


def test_no_check_is_made_by_hand() -> None:
    assert {path: found for path, tree in trees() if (found := list(by_hand(tree)))} == {}


@pytest.mark.parametrize(
    "code", ['Check("foo", "warning", "text")', 'checks.Check("foo", "info", message)', '"few_steps"']
)
def test_a_check_by_hand_is_found(code: str) -> None:
    assert list(by_hand(ast.parse(code)))
    assert not list(by_hand(ast.parse('yield checks.FEW_STEPS("text")')))


def test_no_check_is_emitted_without_a_message() -> None:
    assert {path: found for path, tree in trees() if (found := list(empty_messages(tree)))} == {}


@pytest.mark.parametrize("one", CODES, ids=lambda one: one.code)
def test_a_code_has_a_severity_a_meaning_and_advice(one: CheckCode) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]+", one.code)
    assert one.severity in get_args(Severity)
    for sentence in (one.meaning, one.advice):
        assert re.fullmatch(r"[A-Z`].{20,}\.", sentence), sentence
    assert all(limit.unit and limit.source for limit in one.thresholds)


def test_a_check_carries_what_the_registry_says_and_survives_a_document() -> None:
    check = FEW_STEPS(f"3 runs have under {MIN_STEPS.value:g} steps.")
    assert check == Check("few_steps", FEW_STEPS.severity, "3 runs have under 500 steps.", FEW_STEPS.advice)
    assert Check.from_json(check.to_json()) == check
    old = {"code": "few_steps", "severity": "info", "message": "as 0.1 recorded it"}
    assert Check.from_json(old) == Check("few_steps", "info", "as 0.1 recorded it", "")


def test_the_most_severe_come_first_and_each_once() -> None:
    found = [Check(severity, severity, "text") for severity in ("info", "error", "warning")]  # type: ignore[arg-type]
    law = NO_LAW("none")
    assert [check.code for check in by_severity([*found, *found, law])] == ["error", "warning", "no_law", "info"]


def test_the_page_of_codes_is_up_to_date() -> None:
    page = ROOT / "docs" / "checks.md"
    assert page.read_text() == checks.markdown(), "python -m scaling.checks > docs/checks.md"
