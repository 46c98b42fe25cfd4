"""Command lines of any words on a finished project: an answer, or a refusal in words."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import pytest
from fuzz_command import cases, run
from hypothesis import given
from hypothesis import strategies as st

from scaling.cli import VERBS, scaling

OLD = Path(__file__).parents[1] / "data" / "written-by-0.1"
SLOW = {"--calibrate", "--yes", "--measure", "--simulate"}  # minutes, or real training
WORDS = [
    "sweeps/micro.yaml", "sweeps/micro.yaml", "sweeps/micro.yaml", "results/micro", "results/micro/runs.csv", "micro",
    "micro/1", "sweeps", ".", "/nowhere", "../x", "", " ", "-", "--", "-1", "0", "1", "3", "1e9", "1e10", "1e400",
    "nan", "inf", "x", "7B", "10%", "a=b", "E=1.69", "=", "params=N", "dense", "dense/7e+07/d8L1",
    "dense/7e+07/d8L1/seed=0", "d8", "chinchilla", "hoffmann-2022", "runner.yaml", "out", "out/x.yaml", "cpu", "cuda",
    "auto", "\x1b[2J", "é" * 30, "y" * 3000, "a\nb", "--json", "--help", "corpus.txt", ".scaling/store", "%s", "{}",
    "h200", "1T", "4k",
]  # fmt: skip

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of 0.1 with its finished runs."""
    root = tmp_path_factory.mktemp("lines").resolve()
    shutil.copytree(OLD / "dot-scaling", root / ".scaling")
    shutil.copytree(OLD / "sweeps", root / "sweeps")
    (root / "results" / "micro").mkdir(parents=True)
    shutil.copy(OLD / "runs.csv", root / "results" / "micro" / "runs.csv")
    for path in root.glob(".scaling/launches/*/*.json"):
        path.write_text(path.read_text().replace("@ROOT@", str(root)))
    (root / "runner.yaml").write_text("runner: external\n")
    (root / "corpus.txt").write_text("a line of text\n\n" * 50)
    return root


def inside(word: str) -> str:
    """A place for an option that names where to write: a user may name any, this test stays in its folder."""
    return word if word in ("out", "out/x.yaml", "results/micro", ".", "") else "out"


@cases(0.15, least=40)
@given(data=st.data())
def test_any_words_are_answered(root: Path, data: st.DataObject) -> None:
    verb = data.draw(st.sampled_from([*VERBS, "x", ""]))
    words = [verb]
    command = scaling.get_command(click.Context(scaling), verb)
    for parameter in command.params if command else ():
        option = parameter.opts[0]
        if option in SLOW or data.draw(st.integers(0, 9)) < (1 if parameter.required else 7):
            continue
        value = data.draw(st.sampled_from(WORDS))
        if isinstance(parameter, click.Argument):
            words.append(value)
        elif getattr(parameter, "is_flag", False):
            words.append(option)
        else:
            words += [option, inside(value) if option in ("--out", "--store", "--root") else value]
    words += data.draw(st.lists(st.sampled_from(WORDS), max_size=1)) if data.draw(st.integers(0, 4)) == 0 else []
    if verb in ("fit", "predict", "compare") and "--bootstrap" not in words:
        words += ["--bootstrap", "20"]
    if (
        verb == "report"
        and data.draw(st.integers(0, 30))
        and not any("/" in word and "micro" not in word for word in words)
    ):
        return  # seconds of figures
    if verb == "launch":
        words.append("--dry-run")  # it would train, or draw the report
    run(*words, root=root)
