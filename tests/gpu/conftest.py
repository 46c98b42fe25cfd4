"""What a GPU must show, tried on the CPU too.

`make test-gpu` runs this folder on `SCALING_TEST_DEVICE=cuda:0`. `make test` runs the same tests on the CPU, where runs
are compiled with `aot_eager`, so that every line has been read by Python before it meets a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gpu_device import DEVICE

from scaling.data.shards import TokenData, ValidationSet
from scaling.run import DataRef, Initialisation, Optimizer, Run, Schedule, Shape
from scaling.sweeps.counting import matrix_ranks
from scaling.training.loop import open_device

SHAPE = Shape(layers=3, width=64, heads=4, ff_width=172, vocab_size=256)


@dataclass(frozen=True)
class Place:
    """The device under test, and the compiler that its runs use."""

    device: torch.device

    @property
    def name(self) -> str:
        """As `train` takes it."""
        return str(self.device)

    @property
    def is_gpu(self) -> bool:
        """Whether it is one."""
        return self.device.type == "cuda"

    @property
    def compiler(self) -> str:
        """Inductor needs a compiler of C++ on CPUs and a minute of the suite's time."""
        return "inductor" if self.is_gpu else "aot_eager"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The device, with repeatable kernels and float32 products in float32."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA's condition for repeatable products
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("highest")
    yield Place(open_device(DEVICE))
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def a_run() -> Callable[..., Run]:
    """Makes small runs; `changes` are fields of Run."""

    def make(name: str = "muon", *, ratio: float | None = None, steps: int = 24, **changes: Any) -> Run:
        orthogonal = name != "adamw"
        run = Run(
            shape=SHAPE,
            parameterization="dense" if ratio is None else "low_rank",
            initialisation=Initialisation(embedding_std=0.3, head_std=0.02, hidden_gain=1.0),
            optimizer=Optimizer(
                name=name,
                lr=0.02 if orthogonal else 0.003,
                other_lr=0.01,
                beta1=0.9,
                beta2=0.95,
                eps=1e-8,
                momentum=0.95 if orthogonal else None,
                nesterov=True if orthogonal else None,
                newton_schulz_steps=5 if orthogonal else None,
            ),
            schedule=Schedule("linear", warmup_steps=4, final=0.0),
            steps=steps,
            batch_tokens=16 * 64,
            sequence_length=64,
            seed=1,
            data=DataRef("words", "bytes", 2048),
        )
        run = replace(run, **changes)
        return run if ratio is None else replace(run, ranks=matrix_ranks(run.shape, ratio))

    return make


@pytest.fixture
def data(tmp_path: Path) -> TokenData:
    """Random words of a small vocabulary, ended by token 0: something to learn in a few steps."""
    rng = np.random.default_rng(0)
    vocabulary = [np.append(rng.integers(1, 256, rng.integers(2, 6)), 0) for _ in range(60)]
    tokens = np.concatenate([vocabulary[i] for i in rng.integers(0, 60, 16000)]).astype(np.uint16)
    train, held_out = tokens[:50000], tokens[50000:53001]
    starts = np.arange(0, len(held_out), 97, dtype=np.int64)
    held = ValidationSet("validation", held_out, starts, np.diff(starts, append=len(held_out)), 2048)
    return TokenData("words", tmp_path, 256, train, {"validation": held}, {})
