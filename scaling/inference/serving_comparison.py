"""Which line is cheaper to serve at equal loss: the three choices of `equal_loss`, priced by `cost`.

For every target loss there are rows of three choices of a model per line:

- ``cheapest``: each line's own cheapest-to-train model, C_f(ℓ);
- ``equal_budget``: the smallest model that reaches ℓ with the same training compute, 1.5, 2 and 4 × the larger C_f(ℓ),
  not 1 ×, where dN/dC is infinite for the costlier line;
- ``lifetime``: the model that makes training plus T served tokens cheapest, in FLOPs or in device seconds.

A row is one line, one form (a factorized model is priced as it is, and merged) and one setting. A served token is a
decoded one, at the setting's batch and context. Continuous N is priced along the ladder; beside it stands the nearest
real shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from scaling import checks
from scaling.checks import Check
from scaling.inference import equal_loss
from scaling.inference.cost import Form, Setting, forms
from scaling.inference.curve import FloatArray
from scaling.inference.equal_loss import LineLaw, Trained, TrainedDraws
from scaling.inference.served import LIFETIME_AXES, LifetimeAxis, ServedLine, ServedModel
from scaling.laws.draws import Interval

BUDGET_MULTIPLES = (1.5, 2, 4)
SERVED_PER_TRAINED = (1, 10, 100)  # tokens served, per token of the longest training among the lines' cheapest models
REACHING_SHARE = 0.95  # of the law's draws have to reach the loss, else there is no interval


@dataclass(frozen=True)
class ModelChoice:
    """How the model of a row was chosen; what does not apply is None.

    Args:
        kind: see the module.
        budget_multiple: of the larger C_f(ℓ), for ``equal_budget``.
        served_tokens, axis: over a lifetime, and what is least over it, for ``lifetime``.
    """

    kind: Literal["cheapest", "equal_budget", "lifetime"]
    budget_multiple: float | None = None
    served_tokens: float | None = None
    axis: LifetimeAxis | None = None


@dataclass(frozen=True)
class Ratios:
    """Prices relative to the reference line's model of the same choice and setting; None where one has no model."""

    params: float | None = None
    weight_bytes: float | None = None
    kv_bytes_per_token: float | None = None
    decode_flops_per_token: float | None = None
    decode_seconds: float | None = None


RATIOS = tuple(field.name for field in fields(Ratios))


@dataclass(frozen=True)
class ModelIntervals:
    """95 % intervals over the draws of a law: size, training tokens and FLOPs, and two prices."""

    params: Interval
    tokens: Interval
    flops: Interval
    decode_flops_per_token: Interval
    decode_seconds: Interval | None


@dataclass(frozen=True)
class ServingRow:
    """One line, form, setting and choice; `model` is None where the line never reaches the loss.

    `lifetime_cost` is training plus serving, in the unit of the choice's axis; None for other choices.
    """

    line: str
    choice: ModelChoice
    form: Form
    setting: Setting
    training_speed: Literal["assumed", "measured"]
    model: ServedModel | None
    intervals: ModelIntervals | None = None
    lifetime_cost: float | None = None
    ratios: Ratios = Ratios()


@dataclass(frozen=True)
class BreakEven:
    """Served tokens, ascending, at which `line` costs over its lifetime as much as `against`."""

    line: str
    form: Form
    against: str
    axis: LifetimeAxis
    device: str
    batch: int
    context: int
    served_tokens: tuple[float, ...]
    cheaper_at_first: str


@dataclass(frozen=True)
class ServingComparison:
    """Every row at one target loss (nats per token), break-even points against the reference, and what is assumed."""

    target_loss: float
    rows: tuple[ServingRow, ...]
    break_even: tuple[BreakEven, ...]
    checks: tuple[Check, ...]


def served_lines(lines: Sequence[LineLaw], settings: Sequence[Setting]) -> list[ServedLine]:
    """Every line in every form and setting."""
    return [
        ServedLine(line, form, setting)
        for setting in settings
        for line in lines
        for form in forms(line.curve.rungs[0].ranks)
    ]


def compare(
    lines: Sequence[LineLaw], served: Sequence[ServedLine], *, target_loss: float, lives: bool = True
) -> ServingComparison:
    """All rows at one target loss.

    Args:
        lines: the first is the reference of ratios and break-even points: the dense one.
        served: of `served_lines`.
        target_loss: nats per token.
        lives: also models that are cheapest over training and serving, and break-even points.
    """
    own = {line.name: equal_loss.cheapest(line, target_loss) for line in lines}
    rows, points = list(_cheapest(lines, own, served, target_loss)), list[BreakEven]()
    if trained := [best for best in own.values() if best is not None]:
        reached = [line for line in lines if own[line.name]]
        priced = [s for s in served if own[s.line.name]]
        rows += _equal_budget(reached, priced, target_loss, max(t.flops for t in trained))
        if lives:
            timed = any(_timed(one, own[one.line.name]) for one in priced)
            axes = LIFETIME_AXES if timed else LIFETIME_AXES[:1]
            rows += _lifetime(priced, target_loss, max(t.tokens for t in trained), axes)
            points = list(_break_even(lines[0], priced, target_loss, axes))
    checks = tuple(_checks(rows, own, target_loss))
    return ServingComparison(target_loss, tuple(_with_ratios(rows, lines[0].name)), tuple(points), checks)


def target_losses(lines: Sequence[LineLaw], budgets: Sequence[float]) -> list[float]:
    """For each budget the least loss that every line reaches with it, nats per token, rounded up to three decimals."""
    return [math.ceil(1000 * max(equal_loss.best_loss(line, budget) for line in lines)) / 1000 for budget in budgets]


def _cheapest(
    lines: Sequence[LineLaw], own: dict[str, Trained | None], served: Sequence[ServedLine], target: float
) -> Iterator[ServingRow]:
    for line in lines:
        draws = equal_loss.cheapest_draws(line, target)
        yield from _rows(served, line, own[line.name], draws, ModelChoice("cheapest"))


def _equal_budget(
    lines: Sequence[LineLaw], served: Sequence[ServedLine], target: float, largest: float
) -> Iterator[ServingRow]:
    for multiple in BUDGET_MULTIPLES:
        for line in lines:
            best = equal_loss.smallest(line, target, multiple * largest)
            draws = equal_loss.smallest_draws(line, target, multiple * largest)
            yield from _rows(served, line, best, draws, ModelChoice("equal_budget", budget_multiple=multiple))


def _lifetime(
    served: Sequence[ServedLine], target: float, trained_tokens: float, axes: Sequence[LifetimeAxis]
) -> Iterator[ServingRow]:
    for one in served:
        for axis in axes:
            for tokens in (trained_tokens * m for m in SERVED_PER_TRAINED):
                best, lifetime_cost = one.lifetime(target, tokens, axis)
                choice = ModelChoice("lifetime", served_tokens=tokens, axis=axis)
                yield replace(_row(one, best, choice), lifetime_cost=lifetime_cost)


def _rows(
    served: Sequence[ServedLine], line: LineLaw, best: Trained | None, draws: TrainedDraws | None, choice: ModelChoice
) -> Iterator[ServingRow]:
    for one in served:
        if one.line is line:
            yield replace(_row(one, best, choice), intervals=_intervals(one, draws))


def _timed(served: ServedLine, trained: Trained | None) -> bool:
    return trained is not None and served.timed(trained.params)


def _row(served: ServedLine, trained: Trained | None, choice: ModelChoice) -> ServingRow:
    model = None if trained is None else served.model(trained)
    return ServingRow(served.line.name, choice, served.form, served.setting, served.training_speed, model)


def _intervals(served: ServedLine, draws: TrainedDraws | None) -> ModelIntervals | None:
    """None where there are no draws or too many of them never reach the loss."""
    if draws is None or len(draws.params) < REACHING_SHARE * (len(draws.params) + draws.unreached):
        return None
    flops, seconds = (served.price(name, draws.params) for name in ("decode_flops_per_token", "decode_seconds"))
    timed = served.timed(float(np.median(draws.params)))
    params, tokens, compute, arithmetic = map(_interval, (draws.params, draws.tokens, draws.flops, flops))
    return ModelIntervals(params, tokens, compute, arithmetic, _interval(seconds) if timed else None)


def _interval(values: FloatArray) -> Interval:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _break_even(
    reference: LineLaw, served: Sequence[ServedLine], target: float, axes: Sequence[LifetimeAxis]
) -> Iterator[BreakEven]:
    for base in (s for s in served if s.line is reference):
        for other in (s for s in served if s.line is not reference and s.setting == base.setting):
            for axis in axes:
                a, b = base.life(target, axis), other.life(target, axis)
                few = equal_loss.lifetime_cost(b, 1.0) < equal_loss.lifetime_cost(a, 1.0)
                yield BreakEven(
                    line=other.line.name,
                    form=other.form,
                    against=reference.name,
                    axis=axis,
                    device=base.setting.device.name,
                    batch=base.setting.batch,
                    context=base.setting.context,
                    served_tokens=tuple(equal_loss.break_even(a, b)),
                    cheaper_at_first=other.line.name if few else reference.name,
                )


def _with_ratios(rows: Sequence[ServingRow], reference: str) -> Iterator[ServingRow]:
    """Every row with its prices relative to the reference line's row of the same choice and setting."""
    base = {_place(row): row.model for row in rows if row.line == reference}
    for row in rows:
        yield replace(row, ratios=_ratios(row.model, base.get(_place(row))))


def _place(row: ServingRow) -> tuple[ModelChoice, str, int, int]:
    return row.choice, row.setting.device.name, row.setting.batch, row.setting.context


def _ratios(model: ServedModel | None, against: ServedModel | None) -> Ratios:
    if model is None or against is None:
        return Ratios()
    return Ratios(**{name: _ratio(getattr(model.prices, name), getattr(against.prices, name)) for name in RATIOS})


def _ratio(price: float | None, against: float | None) -> float | None:
    return None if price is None or against is None else price / against


def _checks(rows: Sequence[ServingRow], own: dict[str, Trained | None], target: float) -> Iterator[Check]:
    for name, best in own.items():
        if best is None:
            yield checks.LOSS_NOT_REACHED(f"{name} never reaches {target:.4g} nats by its law.")
    priced = [(row, row.model) for row in rows if row.model is not None]
    timed = [row for row, model in priced if model.prices.decode_seconds is not None]
    if devices := _named(row.setting.device.name for row in timed if not row.setting.calibrated):
        message = "not measured: its seconds rest on typical shares of the data sheet and have a range"
        yield checks.UNCALIBRATED(f"{devices}: {message} (scaling doctor --calibrate).")
    if devices := _named(row.setting.device.name for row, model in priced if not model.fits):
        yield checks.TOO_LARGE_TO_SERVE(f"{devices}: weights and cache are larger than the memory.")
    if lines := _named(row.line for row, model in priced if model.extrapolated):
        yield checks.SIZE_EXTRAPOLATED(f"{lines}: outside the ladder; depth and width are extrapolated.")


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))
