"""A tiny corpus and tiny runs: real training in fractions of a second."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scaling.data.shards import TokenData, ValidationSet
from scaling.run import DataRef, Initialisation, Optimizer, Run, Schedule, Shape
from scaling.sweeps.counting import matrix_ranks

SHAPE = Shape(layers=2, width=8, heads=2, ff_width=24, vocab_size=64)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def words(count: int) -> np.ndarray:
    """Tokens below 64 with something to learn: words of a small vocabulary, drawn at random, ended by token 0."""
    rng = np.random.default_rng(0)
    vocabulary = [np.append(rng.integers(1, 64, rng.integers(2, 6)), 0) for _ in range(40)]
    return np.concatenate([vocabulary[i] for i in rng.integers(0, 40, count)]).astype(np.uint16)


def token_data(tmp: Path, *, hash: str = "corpus", vocab_size: int = 64) -> TokenData:
    tokens = words(4400)
    train, held_out = tokens[:16000], tokens[16000:18000]
    starts = np.arange(0, len(held_out), 61, dtype=np.int64)
    sizes = np.diff(starts, append=len(held_out))
    held = ValidationSet("validation", held_out, starts, sizes, 512)
    other = ValidationSet("other", train[:700], np.array([0, 300]), np.array([600, 800]), 512)
    return TokenData(hash, tmp, vocab_size, train, {"validation": held, "other": other}, {})


def tiny_run(name: str = "muon", *, ratio: float | None = None, steps: int = 6, **changes: Any) -> Run:
    """A run of a few steps; `changes` are fields of Run or, with a dict, of its optimizer, schedule or shape."""
    factored = name.startswith("spectron")
    ratio = 0.5 if factored and ratio is None else ratio
    run = Run(
        shape=SHAPE,
        parameterization="dense" if ratio is None else "low_rank",
        initialisation=Initialisation(embedding_std=0.3, head_std=0.02, hidden_gain=1.0),
        optimizer=Optimizer(
            name=name,
            lr=0.02,
            other_lr=0.02,
            beta1=0.9,
            beta2=0.95,
            eps=1e-8,
            momentum=None if name == "adamw" else 0.95,
            nesterov=True if name == "muon" else None,
            newton_schulz_steps=None if name in ("adamw", "spectron_renormalise_only") else 5,
            shape_factor="original" if name == "muon" else None,
        ),
        schedule=Schedule("linear", warmup_steps=2, final=0.0),
        steps=steps,
        batch_tokens=64,
        sequence_length=16,
        seed=3,
        data=DataRef("words", "bytes", 512),
    )
    for field, value in changes.items():
        nested = isinstance(value, dict)
        run = replace(run, **{field: replace(getattr(run, field), **value) if nested else value})
    return replace(run, ranks=None if ratio is None else matrix_ranks(run.shape, ratio))


@pytest.fixture
def data(tmp_path: Path) -> TokenData:
    return token_data(tmp_path)


@pytest.fixture
def a_run() -> Callable[..., Run]:
    return tiny_run


RULES = [
    ("adamw", None, None),
    ("muon", None, None),
    ("adamw", 0.5, None),
    ("muon", 0.5, None),
    ("spectron", 0.5, None),
    ("spectron_orthogonalise_only", 0.5, None),
    ("spectron_renormalise_only", 0.5, None),
    ("adamw", 0.5, 0.5),
    ("muon", 0.5, 0.5),
]


@pytest.fixture(
    params=RULES, ids=lambda r: f"{r[0]}-{'dense' if r[1] is None else 'low_rank'}{'-guided' if r[2] else ''}"
)
def any_run(request: pytest.FixtureRequest) -> Callable[..., Run]:
    """Makes a tiny run of every rule in turn."""
    name, ratio, guided = request.param
    return lambda **changes: tiny_run(name, ratio=ratio, self_guided=guided, **changes)


def parallel_run(name: str) -> Run:
    """The run of one case of test_parallel."""
    if name == "guided":
        return tiny_run("muon", ratio=0.5, self_guided=0.5, steps=6)
    return tiny_run(name, steps=6)


@pytest.fixture
def case_run() -> Callable[[str], Run]:
    return parallel_run
