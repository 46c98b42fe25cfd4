"""Every command of the README and of docs/ runs, in order, in one project; those marked `needs a cluster` do not.

The project has this repository's sweeps and tables, with a sweep of seconds in place of the two that the pages train. A
page's `RUN` is a run of the sweep on its line.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest

import scaling.cli.compare as compare_command
from scaling.cli import main
from scaling.report.figures import rendering

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "cli"))
from micro_sweep import MICRO  # noqa: E402

STAGES = ["tutorial.md", "plan.md", "train.md", "fit.md", "compare.md", "report.md"]
SWEEP = MICRO.replace("sequence_length: 32", "sequence_length: 128").replace("batch_tokens: 32", "batch_tokens: 128")
PAGES = [ROOT / "docs" / name for name in STAGES] + [ROOT / "README.md"]
ELSEWHERE = {"make study", "make test"}  # what CI runs
TABLE = "params,tokens,loss\n900,1e5,4.2\n900,2e5,4.0\n2000,1e5,3.9\n2000,2e5,3.7\n"


def commands(page: Path) -> Iterator[str]:
    """The lines of the shell blocks of a page, without comments; those that need a cluster are left out."""
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        for line in block.splitlines():
            if line.startswith(("scaling ", "make ", "python ", "pip ")) and "needs a cluster" not in line:
                yield " ".join(shlex.split(line, comments=True, posix=False))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a user has it, without what was trained."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("sweeps", "runners"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("quickstart", "rank-study"):
        left_out = shutil.ignore_patterns("figures", "tables")
        shutil.copytree(ROOT / "results" / "quickstart", folder / "results" / name, ignore=left_out)
    (folder / "runs.csv").write_text(TABLE)
    (folder / "more.txt").write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def with_run(command: str) -> str:
    """`RUN` in a command is a run of the micro sweep."""
    return command.replace(" RUN", " dense/2.8e+08/d8L1/seed=0")


def test_the_pages_of_the_stages_have_commands() -> None:
    assert all(len(list(commands(page))) >= 2 for page in PAGES)


def test_every_command_runs(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(compare_command, "TIMED", ((1, 16),))  # long prompts take half a minute
    monkeypatch.setattr(rendering, "_FORMATS", {"svg": rendering._FORMATS["svg"]})
    done: set[str] = set()
    for page in PAGES:
        if page.name == "README.md":
            (project / "sweeps" / "quickstart.yaml").write_text(SWEEP.replace("micro", "quickstart", 1))
        for command in map(with_run, commands(page)):
            if command in ELSEWHERE | done:
                continue
            words = shlex.split(command)
            assert words[0] == "scaling", f"{page.name}: {command}"
            if words[1] == "launch":
                words.append("--yes")
            if "--served" in words and words[2].startswith("sweeps/"):
                words[2] = "results/rank-study"  # runs of a second have no law
            status = main(words[1:])
            told = capsys.readouterr()
            assert status == 0, f"{page.name}: {command}\n{told.err}"
            if words[1] == "init":
                (project / "sweeps" / f"{words[2]}.yaml").write_text(SWEEP.replace("micro", words[2], 1))
            done.add(command)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "report.md", ROOT / "docs" / "tutorial.md"])
def test_the_python_of_a_page_runs(page: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setitem(mpl.rcParams, "backend", "agg")
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        exec(compile(block, page.name, "exec"), {})
