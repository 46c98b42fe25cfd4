"""Checks of a law: each has a stable code and a message.

Only what points and fits can show is here; checks of plans, training and corpora belong to the stages that know them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from scaling import checks
from scaling.checks import Check
from scaling.laws.draws import Draws
from scaling.laws.fitting import Fit
from scaling.laws.holdout import HoldOut
from scaling.laws.isoflop import IsoFlop
from scaling.laws.law_intervals import parameter_intervals
from scaling.laws.points import Points
from scaling.laws.seed_noise import SeedNoise
from scaling.laws.sensitivity import Alternative
from scaling.laws.solver.identifiability import budget_levels

_NAMED = 4  # budgets in one message


def fit_checks(
    fit: Fit,
    *,
    draws: Draws | None = None,
    isoflop: IsoFlop | None = None,
    noise: SeedNoise | None = None,
    sensitivity: Sequence[Alternative] = (),
    holdout: HoldOut | None = None,
    conventions: Mapping[str, Fit] | None = None,
    compute: Sequence[float] = (),
) -> tuple[Check, ...]:
    """Every check of `fit`.

    Args:
        fit: the law.
        draws: its bootstrap.
        isoflop: approach 2 on the same points.
        noise: seed noise of these points; None is unknown.
        sensitivity: `sensitivity.objective_row` of the same points.
        holdout: prediction of the largest budget.
        conventions: the same law on other parameter counts, by column name.
        compute: FLOPs at which the law will be used.
    """
    return (
        *_of_solution(fit),
        *_of_points(fit.points, fit),
        *_of_floor(fit, draws),
        *(_of_minima(isoflop) if isoflop else ()),
        *_of_choices(fit, draws, isoflop, sensitivity, conventions or {}),
        *_of_noise(fit, noise),
        *_of_reach(fit, compute),
        *(_of_holdout(holdout) if holdout else ()),
    )


def _of_solution(fit: Fit) -> Iterator[Check]:
    if fit.status == "degenerate":
        yield checks.FIT_DEGENERATE(fit.message)
    if fit.status == "not_converged":
        yield checks.FIT_NOT_CONVERGED(fit.message)
    if fit.bounds_hit:
        yield checks.FIT_AT_BOUND(f"{', '.join(fit.bounds_hit)} ended at a bound; the interval is one-sided at best")
    if fit.starts_agreement < checks.MIN_STARTS_AGREEMENT.value:
        message = (
            f"only {fit.starts_agreement:.0%} of the starts reach the best optimum: the objective has many local minima"
        )
        yield checks.STARTS_DISAGREE(message)


def _of_points(points: Points, fit: Fit) -> Iterator[Check]:
    count, parameters = len(points), fit.layout.free_count
    if count < checks.MIN_POINTS_PER_PARAMETER.value * parameters:
        message = f"{count} points for {parameters} parameters: with so few points a 95 % interval is too narrow"
        yield checks.FEW_POINTS(message)
    budgets = budget_levels(points)
    if budgets < checks.MIN_HOLDOUT_BUDGETS.value:
        yield checks.FEW_BUDGETS(f"{budgets} compute budgets: too few to test the curvature in compute")
    rows = np.column_stack([points.params, points.tokens, points.loss])
    repeated = count - len(np.unique(rows, axis=0))
    if repeated:
        some = "points repeat others exactly and count" if repeated > 1 else "point repeats another exactly and counts"
        message = f"{repeated} {some} twice"
        yield checks.DUPLICATE_POINTS(message)
    size = np.abs(fit.residuals)
    middle = float(np.median(size))
    log_loss = np.log(points.loss)
    around = float(np.median(np.abs(log_loss - np.median(log_loss))))
    if middle > checks.MAX_UNEXPLAINED.value * around:
        message = f"the median |residual| of log loss is {middle:.3g}, without any law {around:.3g}"
        yield checks.EXPLAINS_LITTLE(message)
    limit = checks.MAX_RESIDUAL.value * middle
    far = int((size > limit).sum()) if middle > 0 else 0
    if far and middle > 1e-9:
        message = (
            f"{far} of {count} points lie over {checks.MAX_RESIDUAL.value:g} median residuals "
            f"({limit:.3g} in log loss) off the law"
        )
        yield checks.OUTLIERS(message)


def _of_floor(fit: Fit, draws: Draws | None) -> Iterator[Check]:
    floor = fit.form.floor
    for name in (n for n in fit.parameters if floor and n.split("[")[0] == floor):
        value = fit.parameters[name]
        if name in fit.bounds_hit:
            yield checks.E_NOT_IDENTIFIED(f"{name} ended at zero: these points show no irreducible loss")
            continue
        low, high = parameter_intervals(draws)[name] if draws is not None else (value, value)
        if high - low > checks.MAX_E_WIDTH.value * value:
            message = f"{name} = {value:.3g} ({low:.3g} to {high:.3g}): it is not a measured limit of this data"
            yield checks.E_NOT_IDENTIFIED(message)
    if draws is not None and draws.unreliable:
        message = (
            f"of {draws.drawn} draws {draws.failed} failed and {draws.at_bound} ended at a bound of a parameter: its "
            "intervals are unreliable"
        )
        yield checks.INTERVAL_UNRELIABLE(message)


def _of_minima(isoflop: IsoFlop) -> Iterator[Check]:
    budgets: dict[str | None, list[str]] = {}
    for minimum in isoflop.minima:
        if not minimum.bracketed:
            budgets.setdefault(minimum.reason, []).append(f"{minimum.budget:.3g}")
    for reason, found in budgets.items():
        several = "s" if len(found) > 1 else ""
        named = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
        message = f"budget{several} {named}: {reason}; no optimum is taken from {'them' if several else 'it'}"
        yield checks.MINIMUM_AT_EDGE(message)


def _of_choices(
    fit: Fit,
    draws: Draws | None,
    isoflop: IsoFlop | None,
    sensitivity: Sequence[Alternative],
    conventions: Mapping[str, Fit],
) -> Iterator[Check]:
    own = fit.exponents.get("N")
    if own is None:
        return
    low, high = draws.interval("N") if draws is not None and len(draws.vectors) else (own, own)
    if isoflop is not None and "N" in isoflop.exponents:
        other = isoflop.exponents["N"]
        left, right = isoflop.exponent_intervals["N"]
        allowed = float(np.hypot(high - low, right - left)) / 2.0
        if abs(other - own) > max(checks.MAX_EXPONENT_DIFFERENCE.value, allowed):
            message = f"N grows as C^{own:.3f} by approach 3, C^{other:.3f} by approach 2: more than their errors allow"
            yield checks.APPROACHES_DISAGREE(message)
    values = [choice.exponents["N"] for choice in sensitivity if "N" in choice.exponents]
    outside = [value for value in values if not low <= value <= high]
    if outside and max(values) - min(values) > checks.MAX_EXPONENT_DIFFERENCE.value:
        message = f"the exponent of N runs from {min(values):.3f} to {max(values):.3f} over objectives and δ"
        yield checks.OBJECTIVE_SENSITIVE(message)
    for column, other_fit in conventions.items():
        moved = other_fit.exponents.get("N", own)
        if abs(moved - own) > checks.MAX_EXPONENT_DIFFERENCE.value and not low <= moved <= high:
            message = f"with N as {column} the exponent is {moved:.3f}, outside {low:.3f} to {high:.3f}"
            yield checks.N_CONVENTION(message)


def _of_noise(fit: Fit, noise: SeedNoise | None) -> Iterator[Check]:
    if noise is None:
        message = "no cell has several seeds: the seed noise is unknown"
        yield checks.SEED_NOISE_UNKNOWN(message)
    elif fit.sigma_log > checks.MAX_NOISE_RATIO.value * noise.sigma_log and noise.sigma_log > 0:
        sizes = f"{fit.sigma_log:.3g} in log loss against seed noise of {noise.sigma_log:.3g}"
        message = f"residuals of {sizes}: the form does not fit"
        yield checks.RESIDUALS_EXCEED_NOISE(message)


def _of_reach(fit: Fit, compute: Sequence[float]) -> Iterator[Check]:
    largest = float(fit.points.compute.max())
    for target in compute:
        decades = float(np.log10(target / largest))
        if decades > checks.MAX_DECADES.value:
            message = f"{target:.3g} FLOPs is {decades:.1f} decades above the largest run ({largest:.3g})"
            yield checks.EXTRAPOLATION(message)


def _of_holdout(holdout: HoldOut) -> Iterator[Check]:
    if not holdout.beats_line:
        message = (
            f"without the largest budget the law misses it by {holdout.rms_nats:.4f} nats (rms), "
            f"a plain log-log line by {holdout.line_rms_nats:.4f}"
        )
        yield checks.AUDIT_FAILED(message)
