"""Checks of a result: of its run, finite, in nats, after the planned steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scaling.run import Result, Run
from scaling.sweeps.counting import count, flops_6nd, training_flops

LOSS_UNIT = "nats"
_TEXTS = ("device", "torch_version", "corpus_hash")
_COUNTS = ("steps", "tokens", "loss_spikes")
_AMOUNTS = ("flops", "flops_6nd", "optimizer_flops", "device_seconds", "inherited_seconds", "epochs")
_LOSSES = ("loss_nats", "loss_se_nats", "loss_per_byte_nats", "last_finite_loss_nats")
_NUMBERS = (*_AMOUNTS, *_LOSSES)


def problem(result: Result) -> str | None:
    """Why the result is invalid; None where it is valid."""
    values = vars(result)
    if result.status not in ("completed", "diverged"):
        return f"status: {result.status!r}"
    for name in _TEXTS:
        if not isinstance(values[name], str):
            return f"{name}: {values[name]!r} is no text"
    for name in _COUNTS:
        if type(values[name]) is not int or values[name] < 0:
            return f"{name}: {values[name]!r} is no count"
    for name in _NUMBERS:
        value = values[name]
        if type(value) is float and 0 <= value < math.inf:  # nearly all; a status reads tens of thousands of results
            continue
        if not _is_amount(value) and not (value is None and name in _LOSSES):
            return f"{name}: {value!r} is no finite number from 0"
    if (result.loss_nats is None) != (result.status == "diverged"):
        return f"{result.status} with loss_nats: {result.loss_nats!r}"
    for name, numbers in {"diagnostics": {"": result.diagnostics}, "validation": result.validation}.items():
        if not isinstance(numbers, Mapping) or not all(map(_are_numbers, numbers.values())):
            return f"{name}: not finite numbers by name"
    return None


def unit_problem(document: Mapping[str, Any]) -> str | None:
    """Why the losses of a record are not in nats; None where it says so, or nothing."""
    inner = document.get("result")
    for values in (document, inner if isinstance(inner, Mapping) else {}):
        unit = values.get("loss_unit", LOSS_UNIT)
        if unit != LOSS_UNIT:
            return f"loss_unit: {unit!r}"
    return None


def steps_problem(result: Result, run: Run) -> str | None:
    """Why a result does not have the planned steps and tokens of its run."""
    done = result.steps == run.steps if result.status == "completed" else result.steps <= run.steps
    if not done:
        return f"{result.status} after {result.steps} steps of {run.steps}"
    tokens = result.steps * run.batch_tokens
    return None if result.tokens == tokens else f"{result.tokens} tokens instead of {tokens}"


def flops_problem(result: Result, run: Run) -> str | None:
    """Why a result does not have the FLOPs of its run; what a record without a checksum is compared with."""
    planned = {
        "flops": training_flops(
            run.shape, run.ranks, sequence_length=run.sequence_length, tokens=result.tokens, guided=run.self_guided
        ),
        "flops_6nd": flops_6nd(count(run.shape, run.ranks).params_total, result.tokens),
    }
    for name, flops in planned.items():
        if not math.isclose(getattr(result, name), flops, rel_tol=1e-9):
            return f"{name}: {getattr(result, name):g} instead of {flops:g}"
    return None


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return type(value) is int and abs(value) < 1 << 63


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and _is_number(value) and value >= 0


def _are_numbers(values: object) -> bool:
    return isinstance(values, Mapping) and all(number is None or _is_number(number) for number in values.values())
