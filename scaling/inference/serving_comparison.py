"""Which line is cheaper to serve at equal loss: the three choices of `equal_loss`, priced by `cost`.

For every target loss there are rows of three choices of a model per line:

- ``cheapest``: each line's own cheapest-to-train model, C_f(ℓ);
- ``equal_budget``: the smallest model that reaches ℓ with the same training compute, 1, 2 and 4 × the larger C_f(ℓ);
- ``lifetime``: the model that makes training plus T served tokens cheapest, in FLOPs or in device seconds.

A row is one line, one form (a factorized model is priced as it is, and merged) and one setting. A served token is a
decoded one, at the setting's batch and context. Continuous N is priced along the ladder; beside it stands the nearest
real shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scaling import checks
from scaling.checks import Check
from scaling.inference import equal_loss
from scaling.inference.cost import Setting, forms
from scaling.inference.equal_loss import LineLaw, Trained, TrainedDraws
from scaling.inference.served import AXES, Served

BUDGET_MULTIPLES = (1, 2, 4)
SERVED_PER_TRAINED = (1, 10, 100)  # tokens served, per token of the longest training among the lines' cheapest models
RATIOS = ("params", "weight_bytes", "kv_bytes_per_token", "decode_flops_per_token", "decode_seconds")
REACHING_SHARE = 0.95  # of the law's draws have to reach the loss, else there is no interval


@dataclass(frozen=True)
class ModelChoice:
    """How the model of a row was chosen; what does not apply is None. `lifetime_cost` is in the unit of `axis`."""

    choice: str
    budget_multiple: float | None = None
    served_tokens: float | None = None
    axis: str | None = None


def compare(lines: Sequence[LineLaw], *, target_loss: float, settings: Sequence[Setting]) -> dict[str, Any]:
    """All rows at one target loss.

    Args:
        lines: the first is the reference of ratios and break-even points: the dense one.
        target_loss: nats per token.
        settings: devices, batches and contexts to serve at.

    Returns:
        ``{"target_loss", "rows", "break_even", "checks"}`` as JSON has it: finite numbers, unknown is None.
    """
    own = {line.name: equal_loss.cheapest(line, target_loss) for line in lines}
    served = [
        Served(line, form, setting)
        for setting in settings
        for line in lines
        for form in forms(line.curve.rungs[0].ranks)
    ]
    rows, points = list(_cheapest(lines, own, served, target_loss)), []
    if trained := [best for best in own.values() if best is not None]:
        reached = [line for line in lines if own[line.name]]
        priced = [s for s in served if own[s.line.name]]
        rows += _equal_budget(reached, priced, target_loss, max(t.flops for t in trained))
        rows += _lifetime(priced, target_loss, max(t.tokens for t in trained))
        points = _break_even(lines[0], priced, target_loss)
    _add_ratios(rows, lines[0].name)
    checks = [check.to_json() for check in _checks(rows, own, target_loss)]
    return {"target_loss": target_loss, "rows": rows, "break_even": points, "checks": checks}


def target_losses(lines: Sequence[LineLaw], budgets: Sequence[float]) -> list[float]:
    """For each budget the least loss that every line reaches with it, nats per token, rounded up to three decimals."""
    return [math.ceil(1000 * max(equal_loss.best_loss(line, budget) for line in lines)) / 1000 for budget in budgets]


def _cheapest(
    lines: Sequence[LineLaw], own: dict[str, Trained | None], served: Sequence[Served], target: float
) -> Iterator[dict[str, Any]]:
    for line in lines:
        draws = equal_loss.cheapest_draws(line, target)
        yield from _rows(served, line, own[line.name], draws, ModelChoice("cheapest"))


def _equal_budget(
    lines: Sequence[LineLaw], served: Sequence[Served], target: float, largest: float
) -> Iterator[dict[str, Any]]:
    for multiple in BUDGET_MULTIPLES:
        for line in lines:
            best = equal_loss.smallest(line, target, multiple * largest)
            draws = equal_loss.smallest_draws(line, target, multiple * largest)
            yield from _rows(served, line, best, draws, ModelChoice("equal_budget", budget_multiple=multiple))


def _lifetime(served: Sequence[Served], target: float, trained_tokens: float) -> Iterator[dict[str, Any]]:
    for one in served:
        for axis in AXES:
            for tokens in (trained_tokens * m for m in SERVED_PER_TRAINED):
                best, lifetime_cost = one.lifetime(target, tokens, axis)
                choice = ModelChoice("lifetime", served_tokens=tokens, axis=axis)
                yield _row(one, best, None, choice) | {"lifetime_cost": lifetime_cost}


def _rows(
    served: Sequence[Served], line: LineLaw, best: Trained | None, draws: TrainedDraws | None, choice: ModelChoice
) -> Iterator[dict[str, Any]]:
    for one in served:
        if one.line is line:
            yield _row(one, best, _intervals(one, draws), choice)


def _row(
    served: Served, trained: Trained | None, intervals: dict[str, list[float]] | None, choice: ModelChoice
) -> dict[str, Any]:
    row = {"line": served.line.name, **asdict(choice), "lifetime_cost": None}
    return row | served.row(trained) | {"intervals": intervals}


def _intervals(served: Served, draws: TrainedDraws | None) -> dict[str, list[float]] | None:
    """95 % intervals over the draws of the law; None where there are none or too many never reach the loss."""
    if draws is None or len(draws.params) < REACHING_SHARE * (len(draws.params) + draws.unreached):
        return None
    values = {"N": draws.params, "D": draws.tokens, "C": draws.flops}
    values |= {name: served.price(name, draws.params) for name in ("decode_flops_per_token", "decode_seconds")}
    return {name: [float(q) for q in np.quantile(v, (0.025, 0.975))] for name, v in values.items()}


def _break_even(reference: LineLaw, served: Sequence[Served], target: float) -> list[dict[str, Any]]:
    """Served tokens at which another line's lifetime costs as much as the reference's."""
    found = []
    for base in (s for s in served if s.line is reference):
        for other in (s for s in served if s.line is not reference and s.setting == base.setting):
            for axis in AXES:
                a, b = base.life(target, axis), other.life(target, axis)
                points = equal_loss.break_even(a, b)
                few = equal_loss.lifetime_cost(b, 1.0) < equal_loss.lifetime_cost(a, 1.0)
                found.append(
                    {
                        "line": other.line.name,
                        "form": other.form,
                        "against": reference.name,
                        "axis": axis,
                        "device": base.setting.device.name,
                        "batch": base.setting.batch,
                        "context": base.setting.context,
                        "served_tokens": points,
                        "cheaper_at_first": other.line.name if few else reference.name,
                    }
                )
    return found


def _add_ratios(rows: Sequence[dict[str, Any]], reference: str) -> None:
    """Every price relative to the reference line's row of the same choice and setting."""
    shared = (*ModelChoice.__dataclass_fields__, "device", "batch", "context")
    base = {tuple(row[k] for k in shared): row for row in rows if row["line"] == reference}
    for row in rows:
        against = base.get(tuple(row[k] for k in shared), {})
        for name in RATIOS:
            over, under = row[name], against.get(name)
            row[f"{name}_ratio"] = over / under if over is not None and under else None


def _checks(rows: Sequence[dict[str, Any]], own: dict[str, Trained | None], target: float) -> Iterator[Check]:
    for name, best in own.items():
        if best is None:
            yield checks.LOSS_NOT_REACHED(f"{name} never reaches {target:.4g} nats by its law.")
    priced = [row for row in rows if row["N"] is not None]
    if devices := _named(priced, "device", lambda row: not row["calibrated"]):
        message = "the time of a kernel launch was not measured, so launches are free in these seconds"
        yield checks.UNCALIBRATED(f"{devices}: {message} (scaling doctor --calibrate).")
    if devices := _named(priced, "device", lambda row: not row["fits"]):
        yield checks.TOO_LARGE_TO_SERVE(f"{devices}: weights and cache are larger than the memory.")
    if lines := _named(priced, "line", lambda row: row["extrapolated"]):
        yield checks.SIZE_EXTRAPOLATED(f"{lines}: outside the ladder; depth and width are extrapolated.")


def _named(rows: Sequence[dict[str, Any]], column: str, where: Callable[[dict[str, Any]], bool]) -> str:
    return ", ".join(sorted({row[column] for row in rows if where(row)}))
