"""A whole sweep that plans, trains, fits and reports in seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from micro_sweep import MICRO


class Scaling:
    """The command, run as a process in an empty folder that holds `sweeps/micro.yaml`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sweep = root / "sweeps" / "micro.yaml"
        self.sweep.parent.mkdir(parents=True, exist_ok=True)
        self.sweep.write_text(MICRO)

    def start(self, *arguments: str, **more: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "scaling.cli", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=self.root, text=True, env=environment, **(pipes | more))

    def __call__(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == status, f"exit {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(arguments, status, out, err)

    def json(self, *arguments: str) -> dict:
        document = json.loads(self(*arguments, "--json").stdout)
        assert document["schema_version"] == 1
        return document

    def losses(self) -> dict[str, float]:
        runs = self.json("status", "sweeps/micro.yaml")["runs"]
        return {run["id"]: run["loss"] for run in runs}


@pytest.fixture(scope="session")
def a_project() -> type[Scaling]:
    """Makes a folder a project."""
    return Scaling


@pytest.fixture
def scaling(tmp_path: Path) -> Scaling:
    return Scaling(tmp_path / "project")


@pytest.fixture
def one_line(scaling: Scaling) -> Scaling:
    """The low-rank line of the micro sweep at its two smaller budgets."""
    kept = [line for line in MICRO.splitlines() if not line.startswith("  dense:")]
    scaling.sweep.write_text("\n".join(kept).replace(", 2.8e8]", "]") + "\n")
    return scaling


@pytest.fixture(scope="session")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Scaling:
    """The micro sweep, launched to its end undisturbed by the first of pytest's processes. Tests only read it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    scaling, told = Scaling(shared / "launched"), shared / "launched.txt"
    with FileLock(shared / "launched.lock"):
        if not told.exists():
            told.write_text(scaling("launch", "sweeps/micro.yaml", "--yes").stderr)
    scaling.first_launch = told.read_text()
    return scaling
