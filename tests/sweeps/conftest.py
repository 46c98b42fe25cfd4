"""A small sweep as a dictionary, and how to make a file of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaling.sweeps.grids import Plan, plan
from scaling.sweeps.schema import Sweep, load_sweep

SMALL: dict[str, Any] = {
    "sweep": "small",
    "question": "Is it?",
    "data": {"corpus": "python-stdlib"},
    "grid": {
        "kind": "isoflop",
        "budgets": ["2e10", "6e10", "2e11"],
        "ladder": "tiny",
        "sizes_per_budget": 3,
        "centre": {"n_opt": "28k", "at": "2e11", "exponent": 0.6},
    },
    "families": {
        "dense": {"parameterization": "dense", "optimizer": "muon", "lr": 0.02},
        "low_rank": {"parameterization": "low_rank", "optimizer": "spectron", "lr": 0.05, "rank_ratio": [0.25, 0.5]},
    },
    "training": {"sequence_length": 128, "batch_tokens": {"recipe": "sqrt-tokens"}},
}


@pytest.fixture
def small() -> dict[str, Any]:
    """The small sweep, to change before it is written."""
    return copy.deepcopy(SMALL)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[dict[str, Any]], Sweep]:
    """Write a dictionary as a sweep file and read it."""

    def write_and_read(values: dict[str, Any]) -> Sweep:
        path = tmp_path / "sweeps" / "small.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return load_sweep(path)

    return write_and_read


@pytest.fixture
def planned(read: Callable[[dict[str, Any]], Sweep], tmp_path: Path) -> Callable[..., Plan]:
    """Write, read and plan a dictionary."""
    return lambda values, **options: plan(read(values), **{"vocab_size": 256, "root": tmp_path, **options})
