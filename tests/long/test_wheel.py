"""Wheel and sdist, tried in an empty folder from `pip install` to a report: `make test-long`, about four minutes.

`python -m build` makes the sdist and, from that, the wheel: what the sdist lacks, the wheel lacks. Packages come from
the index that pip is set up with.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import venv
from pathlib import Path

import pytest

import scaling

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def in_environment(folder: Path, *packages: str) -> Path:
    """The programs of a new environment with some packages."""
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", *packages], check=True, env=ENVIRONMENT)
    return folder / "bin"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both archives."""
    folder = tmp_path_factory.mktemp("built")
    python = in_environment(folder / "env", "build") / "python"
    subprocess.run([python, "-m", "build", "--outdir", folder / "dist", ROOT], check=True, env=ENVIRONMENT)
    return folder / "dist"


def test_the_sdist_has_what_a_build_needs_and_no_results(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    assert archive.name == f"scaling_orchestrator-{scaling.__version__}.tar.gz"
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "scaling/templates/sweep.yaml"} <= names
    assert not any(name.startswith(("results/", ".scaling/", ".venv/")) for name in names)


def test_from_an_empty_folder_to_a_report(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    command = in_environment(tmp_path / "env", f"{wheel}[train]") / "scaling"
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(*arguments: str) -> str:
        done = subprocess.run([command, *arguments], cwd=empty, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("--version").split()[-1] == scaling.__version__
    run("init", "demo")
    run("launch", "sweeps/demo.yaml", "--yes")
    assert (empty / "results" / "demo" / "report.html").stat().st_size > 100_000
    assert "low_rank@0.25" in run("compare", "sweeps/demo.yaml")
