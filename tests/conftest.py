"""What several test folders need: a tiny run that trains in a fraction of a second."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scaling.rows import CellKey, PlanRow
from scaling.run import DataRef, Initialisation, Optimizer, Result, Run, Schedule, Shape

pytest_plugins = ["simulated_sweep"]  # the fixtures of analysis and report

TINY = Run(
    shape=Shape(layers=1, width=8, heads=1, ff_width=24, vocab_size=256),
    parameterization="dense",
    initialisation=Initialisation(embedding_std=0.3, head_std=0.0, hidden_gain=1.0),
    optimizer=Optimizer(name="adamw", lr=0.01, other_lr=0.02, beta1=0.9, beta2=0.95, eps=1e-8),
    schedule=Schedule(kind="linear", warmup_steps=2, final=0.0),
    steps=12,
    batch_tokens=128,
    sequence_length=64,
    seed=0,
    data=DataRef(corpus="python-stdlib", tokenizer="bytes", validation_tokens=1024),
)


@pytest.fixture(autouse=True)
def _process_as_it_was() -> Iterator[None]:
    """What training and `scaling work` change in their whole process is undone for the next test: denormal numbers are
    flushed, and stop signals ignored, which every process that a test starts would inherit.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture
def tiny_run() -> Callable[..., Run]:
    """A run of a few steps; keyword arguments replace its fields."""
    return lambda **changes: dataclasses.replace(TINY, **changes)


@pytest.fixture
def a_plan_row() -> Callable[..., PlanRow]:
    """The plan's row of the tiny run; `run` and keyword arguments replace its fields."""

    def row(run: Run = TINY, **changes: Any) -> PlanRow:
        made = PlanRow(
            id=run.id,
            family="dense",
            cell=CellKey("dense", "1e+09", "d8L1"),
            parameterization=run.parameterization,
            optimizer=run.optimizer.name,
            rank_ratio=None,
            shape=run.shape,
            params_total=4952,
            params_non_embedding=856,
            params_matmul=2880,
            tokens=run.tokens,
            steps=run.steps,
            batch_tokens=run.batch_tokens,
            sequence_length=run.sequence_length,
            budget=1e9,
            flops=1e9,
            flops_6nd=9e8,
            optimizer_flops=1e7,
            memory_bytes=1e6,
            lr=run.optimizer.lr,
            other_lr=run.optimizer.other_lr,
            seed=run.seed,
            hours=0.1,
            settings=run.settings(),
        )
        return dataclasses.replace(made, **changes)

    return row


@pytest.fixture
def a_result() -> Callable[..., Result]:
    """A completed result; keyword arguments replace its fields."""
    result = Result(
        status="completed",
        loss_nats=2.5,
        loss_se_nats=0.01,
        loss_per_byte_nats=2.5,
        last_finite_loss_nats=2.4,
        steps=12,
        tokens=1536,
        flops=1e9,
        flops_6nd=9e8,
        optimizer_flops=1e7,
        device_seconds=0.5,
        epochs=0.01,
        device="cpu",
        torch_version="2.13.0",
        corpus_hash="c0ffee",
    )
    return lambda **changes: dataclasses.replace(result, **changes)
