"""Every option that a message, a docstring or the README names for a verb exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

from scaling.cli import VERBS, scaling

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"\bscaling ([a-z]+)\b((?:(?!\bscaling )[^;()`\n#])*)")  # ends where another command begins
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def texts(path: Path) -> Iterator[str]:
    """String constants, those of an f-string joined."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def named_options(text: str) -> set[tuple[str, str]]:
    """(verb, option) of every command in a text."""
    return {(verb, option) for verb, rest in COMMAND.findall(text) for option in OPTION.findall(rest)}


def options_of(verb: str) -> set[str]:
    command = scaling.get_command(click.Context(scaling), verb)
    assert command is not None, f"there is no verb {verb}"
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_options_named_in_the_code_exist() -> None:
    named = {pair for path in (ROOT / "scaling").rglob("*.py") for text in texts(path) for pair in named_options(text)}
    assert {("predict", "--published"), ("launch", "--yes"), ("doctor", "--calibrate")} <= named
    assert not {(verb, option) for verb, option in named if option not in options_of(verb)}


def test_options_named_in_the_pages_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    named = {pair for page in pages for pair in named_options(page.read_text())}
    assert named
    assert not {(verb, option) for verb, option in named if option not in options_of(verb)}


def test_an_invented_option_is_found() -> None:
    assert named_options("see `scaling fit X --nowhere 3`; scaling laws") == {("fit", "--nowhere")}
    assert "--nowhere" not in options_of("fit")
    assert set(VERBS) >= {"fit", "predict"}
