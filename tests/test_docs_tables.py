"""The examples of docs/tables.md are what the command prints: words to the letter, numbers to a thousandth."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from scaling.cli import main

PAGE = (Path(__file__).parent.parent / "docs" / "tables.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"`(\w+\.csv)`:\n\n```csv\n(.*?)```\n\n```console\n\$ scaling (.*?)\n(.*?)```", PAGE, re.DOTALL)
IMPORT = EXAMPLES.pop()
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def test_the_page_has_five_examples() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize(("name", "table", "command", "said"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_an_example_is_what_the_command_prints(name, table, command, said, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / name).write_text(table, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)) == 0
    printed, wanted = _until_residuals(capsys.readouterr().out), _until_residuals(said)
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", wanted)
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (printed, wanted)]
    assert numbers[0] == pytest.approx(numbers[1], rel=2e-3)


def test_the_example_of_an_import_is_what_the_command_prints(tmp_path, monkeypatch, capsys) -> None:
    name, table, command, said = IMPORT
    [sweep] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "elsewhere.yaml").write_text(sweep, encoding="utf-8")
    (tmp_path / name).write_text(table, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().err.replace(f"{tmp_path}/", "").strip() == said.strip()
    assert main(["compare", "sweeps/elsewhere.yaml", "--bootstrap", "50"]) == 0
    compared = capsys.readouterr().out
    assert "qk_norm needs 0.66 ×" in compared
    assert "12 of 12: torchtitan.csv" in compared
    assert main(["report", "sweeps/elsewhere.yaml"]) == 0
    assert "torchtitan.csv" in (tmp_path / "results" / "elsewhere" / "report.html").read_text(encoding="utf-8")


def _until_residuals(text: str) -> str:
    """Without what depends on the last bits: condition number, residuals, correlations, noise, weights."""
    lines = [
        line
        for line in text.strip().splitlines()
        if not line.startswith(("  status", "  residuals", "  rank", "  noise", "  predictions"))
    ]
    return "\n".join(line.rstrip() for line in lines)
