"""The base install, without torch and other optional packages: what works, and what says what is missing.

The packages are hidden from the import system of one process, which then runs every command.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HIDDEN = ("torch", "safetensors", "transformers", "datasets", "tiktoken", "tokenizers", "submitit")
TRAIN = "pip install 'scaling-orchestrator[train]'"
PROGRAM = """
import contextlib, importlib.machinery, io, json, sys

hidden, commands = json.loads(sys.argv[1]), json.loads(sys.argv[2])


class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in hidden else super().find_spec(name, path, target)


sys.meta_path = [Finder if one is importlib.machinery.PathFinder else one for one in sys.meta_path]
sys.meta_path = [one for one in sys.meta_path if not getattr(one, "__module__", "").startswith("__editable__")]
sys.path.insert(0, ".")
from scaling.cli import main

for command in commands:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(command)
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


def run(commands: dict[str, list[str]]) -> dict[str, Ended]:
    arguments = [json.dumps(HIDDEN), json.dumps(list(commands.values()))]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    ends = [Ended(*json.loads(line)) for line in done.stdout.splitlines()]
    return dict(zip(commands, ends, strict=True))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Every command, run in one process without the packages."""
    folder = tmp_path_factory.mktemp("without")
    table = folder / "table.csv"
    rows = [(n, c / (6 * n), c) for c in (1e18, 3e18, 1e19, 3e19) for n in (5e7, 1e8, 2e8, 4e8)]
    losses = [1.8 + 480 / n**0.35 + 2100 / d**0.37 for n, d, _ in rows]
    lines = [f"{family},{n},{d},{loss + extra}" for family, extra in (("a", 0.0), ("b", 0.05))
             for (n, d, _), loss in zip(rows, losses, strict=True)]  # fmt: skip
    table.write_text("\n".join(["family,params,tokens,loss", *lines]) + "\n")
    sweep, root, ours = "sweeps/quickstart.yaml", ["--root", str(folder)], "results/quickstart/runs.csv"
    (folder / ".scaling" / "store").mkdir(parents=True)
    commands = {
        "fit": ["fit", str(table), "--bootstrap", "0"],
        "fit ours": ["fit", ours, "--bootstrap", "0"],
        "predict": ["predict", str(table), "--compute", "1e21", "--bootstrap", "20"],
        "compare": ["compare", str(table), "--bootstrap", "20"],
        "report": ["report", str(table)],
        "plan": ["plan", sweep, *root],
        "dry run": ["launch", sweep, "--dry-run", *root],
        "doctor": ["doctor", "--json", *root],
        "launch": ["launch", sweep, "--yes", *root],
        "measure": ["compare", ours, "--measure"],
        "calibrate": ["doctor", "--calibrate", *root],
        "export": ["export", sweep, "0000", "--out", str(folder / "out"), *root],
        "evaluate": ["evaluate", sweep, "--data", "README.md", *root],
    }
    return run(commands)


@pytest.mark.parametrize("verb", ["fit", "fit ours", "predict", "compare", "report", "plan", "dry run"])
def test_what_needs_no_torch_works(verb: str, ended: dict[str, Ended]) -> None:
    assert ended[verb].status == 0, ended[verb].err


@pytest.mark.parametrize("verb", ["launch", "measure", "calibrate", "export", "evaluate"])
def test_what_needs_torch_names_the_extra(verb: str, ended: dict[str, Ended]) -> None:
    assert ended[verb].status == 1
    assert TRAIN in ended[verb].err
    assert "Traceback" not in ended[verb].err
    assert "not your mistake" not in ended[verb].err


def test_plan_says_that_the_corpus_is_not_here(ended: dict[str, Ended]) -> None:
    assert "torch of the corpus python-packages is not installed here" in ended["plan"].err


def test_doctor_names_what_is_missing(ended: dict[str, Ended]) -> None:
    document = json.loads(ended["doctor"].out)
    assert document["packages"]["torch"] is None
    assert document["packages"]["numpy"]
    assert TRAIN in document["not installed"]["torch"]
    assert "needs torch" in document["corpora"]["python-packages"]
