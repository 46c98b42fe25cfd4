"""Fixtures of the SLURM tests: a fake cluster, an empty store, profiles. Test files name it in `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm

from scaling.results.store import Store
from scaling.runners.runner_file import Runner, load_runner


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A fake SLURM that is first in PATH."""
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", fake.path)
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SCALING_CONTINUATION"):
        monkeypatch.delenv(name, raising=False)
    return fake


@pytest.fixture
def slurm_profile(tmp_path: Path) -> Callable[..., Runner]:
    """A slurm runner file with these lines."""

    def make(*lines: str) -> Runner:
        path = tmp_path / "runner.yaml"
        path.write_text("\n".join(["runner: slurm", "device: cpu", "time_limit: 4h", *lines]) + "\n")
        return load_runner(path)

    return make


@pytest.fixture
def empty_store(tmp_path: Path) -> Store:
    """An empty store."""
    (tmp_path / "store").mkdir()
    return Store(tmp_path / "store")
