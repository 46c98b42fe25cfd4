"""The public names exist, type checkers see them, and asking for the package loads none of their modules."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import scaling

ROOT = Path(__file__).parent.parent
USER_SCRIPT = """
from pathlib import Path

import numpy as np

import scaling
from scaling import Points, Project, Run, ScalingError, Settings, fit, load_sweep, plan, read_table, study_rows


def exponent(table: Path) -> float:
    params, tokens = np.array([1e6, 2e6, 4e6]), np.array([1e8, 2e8, 4e8])
    result: scaling.Fit = fit(Points(params, tokens, loss=np.array([3.0, 2.8, 2.7])))
    rows = read_table(table)
    study: scaling.Study = study_rows(rows, settings=Settings(law="chinchilla", bootstrap=100))
    names: list[str] = [line.name for line in study.lines]
    return result.parameters["alpha"] + len(names)


def first(sweep: Path) -> Run:
    try:
        grid = plan(load_sweep(sweep), vocab_size=256)
    except ScalingError as error:
        raise SystemExit(error.what) from error
    run: Run = grid.runs[0].run
    tokens: int = run.tokens
    assert tokens > 0
    return run


def losses(sweep: Path) -> dict[str, float | None]:
    project = Project.open(sweep)
    done = project.launch(confirm=lambda plan, todo: plan.totals.hours < 1 and todo < 10)
    laws: list[str] = [line.name for line in project.study().lines if line.law]
    assert len(laws) + len(done.failed) < 10
    return {run.row.id: run.loss for run in done.runs}
"""
MISTAKES = {
    "scaling.no_such_name": "attr-defined",
    "scaling.Run.no_such_field": "attr-defined",
    "scaling.Settings(objektive='mse')": "call-arg",
    "scaling.load_sweep(3)": "arg-type",
    "scaling.Project.open('a.yaml').launch(wait='yes')": "arg-type",
    "scaling.read_table('t.csv').losses": "attr-defined",
}


def type_check(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What mypy says of a user's script, in a folder of its own without this project's configuration."""
    (folder / "user_script.py").write_text(script)
    (folder / "mypy.ini").write_text("[mypy]\nstrict = True\n")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--no-color-output", "user_script.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # as an installed package: mypy asks it for py.typed
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_public_name_is_there() -> None:
    assert all(getattr(scaling, name) is not None for name in dir(scaling))
    with pytest.raises(AttributeError, match="it has Run, Shape"):
        scaling.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def test_run_time_and_type_checker_take_each_name_from_the_same_module() -> None:
    tree = ast.parse(Path(scaling.__file__).read_text())
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {name: f"scaling.{place}" for name, place in scaling._PLACES.items()}
    assert list(scaling._PLACES) == scaling.__all__


def test_importing_the_package_is_free() -> None:
    program = "import sys, scaling; print([m for m in sys.modules if m.startswith('scaling.') or m == 'numpy'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_type_checker_sees_the_public_names_and_their_mistakes(tmp_path: Path) -> None:
    """One run of mypy over a right script and, below it, one mistake a line: each is found, and nothing else is."""
    lines = USER_SCRIPT.count("\n")
    done = type_check(USER_SCRIPT + "\n".join(MISTAKES) + "\n", tmp_path)
    errors = {
        int(line.split(":")[1]): line.rsplit("[", 1)[1].rstrip("]")
        for line in done.stdout.splitlines()
        if ": error:" in line
    }
    assert errors == dict(enumerate(MISTAKES.values(), lines + 1)), done.stdout + done.stderr
