"""Approach 2: on each compute budget, loss against log N is a valley; its bottom is the compute-optimal model.

A curve (parabola, cubic or Akima) is fitted to the points of each budget, once in log N and once in log D. A bottom
counts only if it is bracketed: inside the sizes tried, with the curve rising on both sides. Power laws through the
bottoms give the exponents. Approach 2 is biased even without noise, because a valley of A/N^α + B/D^β is not symmetric
(arXiv 2603.22339): it stands beside approach 3, it does not replace it. Hoffmann et al. 2203.15556, section 3.2.

Intervals come from drawing the losses again about each budget's curve, with the seed noise as a floor, and from the
scatter of the bottoms about their line where that is larger than those draws explain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from scaling.errors import FitError
from scaling.laws.budget_groups import recognised_budgets
from scaling.laws.draws import Interval, percentile_interval
from scaling.laws.points import Array, Indices, Points
from scaling.laws.solver.newton import Flags

Curve = Literal["parabola", "cubic", "akima"]
CURVES: tuple[Curve, ...] = ("parabola", "cubic", "akima")
MIN_POINTS = {"parabola": 3, "cubic": 4, "akima": 5}  # a curve through fewer has no bottom of its own
MIN_MINIMA = 3  # two bottoms give a slope and no idea of its error
_AKIMA_NODES = 400
_LARGEST_DEVIATION = 50.0  # of log loss: a corrupt point makes the noise level of the draws anything


@dataclass(frozen=True)
class Minimum:
    """The bottom of one budget's valley.

    Where it is not `bracketed`, `reason` says why and the numbers are those of the lowest point.
    """

    budget: float
    params: float
    tokens: float
    loss: float
    points: int
    bracketed: bool
    reason: str | None = None
    params_interval: Interval | None = None
    tokens_interval: Interval | None = None
    loss_interval: Interval | None = None


@dataclass(frozen=True, eq=False)
class IsoFlop:
    """Approach 2 of one line.

    Attributes:
        curve: which curve was fitted.
        minima: one for each budget, ascending; the rejected ones too.
        exponents: of compute-optimal N and D in C; empty below three bracketed minima.
        exponent_intervals: 95 %.
        coefficients: N_opt = coefficients["N"] · C^exponents["N"], the same for D.
        draws: exponents of each draw.
        message: one sentence.
    """

    curve: Curve
    minima: tuple[Minimum, ...]
    exponents: dict[str, float]
    exponent_intervals: dict[str, Interval]
    coefficients: dict[str, float]
    message: str
    draws: dict[str, Array] = field(default_factory=dict)

    @property
    def bracketed(self) -> tuple[Minimum, ...]:
        """The minima that count."""
        return tuple(minimum for minimum in self.minima if minimum.bracketed)

    def at(self, compute: float) -> dict[str, float]:
        """Compute-optimal N and D at `compute` by the power laws (empty where there are none)."""
        return {name: self.coefficients[name] * compute**a for name, a in self.exponents.items()}


class _Valley(NamedTuple):
    """One budget: bottoms [1 + draws] in log N and log D, and loss there; the first is of the data themselves."""

    budget: float
    log_params: Array
    log_tokens: Array
    loss: Array
    minimum: Minimum


def isoflop(
    points: Points,
    *,
    curve: Curve = "parabola",
    draws: int = 1000,
    seed: int = 0,
    noise: float | None = None,
    deviations: Array | None = None,
) -> IsoFlop:
    """The minimum of every budget, and the power laws through them.

    Args:
        points: one line, with `budget`, or with FLOPs that cluster (`budget_groups`; the message then says so).
        curve: `parabola`, `cubic` or `akima`.
        draws: redrawn data sets for the intervals.
        seed: of those draws.
        noise: standard deviation of one seed in log loss; draws are never quieter.
        deviations: log deviations from the curve [draws, points] to use in place of new noise (cells that were tuned:
            `tuning_bias.selection_draws`).

    Raises:
        FitError: no budgets, given or recognised, or an unknown curve.
    """
    recognised = ""
    if points.budget is None:
        inferred = recognised_budgets(points)
        if inferred.budget is None:
            raise FitError(
                f"approach 2 needs the compute budget of every point, and {inferred.reason}",
                got="no column budget",
                allowed="points on isoFLOP profiles",
            )
        points, recognised = replace(points, budget=inferred.budget), f"; {inferred.reason}"
    assert points.budget is not None
    if curve not in CURVES:
        raise FitError("unknown curve", got=curve, allowed=", ".join(CURVES))
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(points.budget == budget) for budget in np.unique(points.budget)]
    groups = [points.select(rows) for rows in members]
    sigma, freedom = _pooled_noise(groups, curve, noise)
    unknown = not draws or (sigma is None and deviations is None)
    # A noise level for each draw, as uncertain as the residuals leave it: intervals then widen as Student's t does.
    levels = (sigma or 0.0) * np.sqrt(freedom / rng.chisquare(freedom, size=(draws, 1)))

    def redrawn(rows: Indices) -> Array:
        return levels * rng.normal(size=(draws, len(rows))) if deviations is None else deviations[:, rows]

    valleys = [_valley(points.select(rows), curve, partial(redrawn, rows)) for rows in members]
    minima = tuple(_without_intervals(valley.minimum) if unknown else valley.minimum for valley in valleys)
    good = [valley for valley in valleys if valley.minimum.bracketed]
    if len(good) < MIN_MINIMA:
        message = f"{len(good)} of {len(minima)} budgets have a bracketed minimum; exponents take at least {MIN_MINIMA}"
        message += recognised
        return IsoFlop(curve, minima, {}, {}, {}, message)
    log_compute = np.log([valley.budget for valley in good])
    exponents, intervals, coefficients, samples = {}, {}, {}, {}
    for name, table in (("N", [v.log_params for v in good]), ("D", [v.log_tokens for v in good])):
        slopes, offset = _power_law(log_compute, np.array(table), rng)
        exponents[name], coefficients[name], samples[name] = float(slopes[0]), float(np.exp(offset)), slopes[1:]
        intervals[name] = percentile_interval(slopes[1:][np.isfinite(slopes[1:])])
    message = f"{len(good)} of {len(minima)} budgets have a bracketed minimum{recognised}"
    return IsoFlop(curve, minima, exponents, intervals, coefficients, message, samples)


def _power_law(log_compute: Array, bottoms: Array, rng: np.random.Generator) -> tuple[Array, float]:
    """Slopes [1 + draws] of bottoms [budgets, 1 + draws] on log C; extra scatter about the line is drawn too."""
    x = log_compute - log_compute.mean()
    slope = float(x @ bottoms[:, 0] / (x @ x))
    rest = bottoms[:, 0] - bottoms[:, 0].mean() - slope * x
    scatter = float(rest @ rest) / (len(x) - 2)
    samples = bottoms[:, 1:]
    # A draw without a bottom at one budget keeps the data's own there: it carries no information about the spread.
    samples = np.where(np.isfinite(samples), samples, bottoms[:, :1])
    explained = float(samples.var(axis=1).mean()) if samples.shape[1] else 0.0
    samples = samples + rng.normal(size=samples.shape) * np.sqrt(max(0.0, scatter - explained))
    slopes = np.concatenate([[slope], x @ samples / (x @ x)])
    return slopes, float(bottoms[:, 0].mean() - slope * log_compute.mean())


def _without_intervals(minimum: Minimum) -> Minimum:
    """Of no draws, or of curves through as many points as they have coefficients and no known seed noise: nothing says
    how far the minimum may be from the truth.
    """
    return replace(minimum, params_interval=None, tokens_interval=None, loss_interval=None)


def _pooled_noise(groups: list[Points], curve: Curve, noise: float | None) -> tuple[float | None, int]:
    """Deviation of log loss about the budgets' curves, pooled and at least the seed noise, None where neither is known;
    its freedom (≥ 3).
    """
    squares, freedom = 0.0, 0
    degree = 3 if curve == "cubic" else 2
    for group in groups:
        if len(np.unique(group.params)) > degree + 1:
            design = _design(np.log(group.params), degree)
            rest = group.loss - design @ np.linalg.lstsq(design, group.loss, rcond=None)[0]
            squares += float(((rest / group.loss) ** 2).sum())
            freedom += len(group) - degree - 1
    own = float(np.sqrt(squares / freedom)) if freedom else None
    known = [part for part in (own, noise) if part is not None]
    return max(known, default=None), max(freedom, 3)


def _valley(group: Points, curve: Curve, deviations: Callable[[], Array]) -> _Valley:
    assert group.budget is not None
    budget = float(group.budget[0])
    lowest = int(np.argmin(group.loss))
    plain = (float(group.params[lowest]), float(group.tokens[lowest]), float(group.loss[lowest]))
    distinct = len(np.unique(group.params))
    if distinct < MIN_POINTS[curve]:
        nothing = np.full(1, np.nan)
        reason = f"{distinct} size{'s' if distinct > 1 else ''}: a {curve} takes {MIN_POINTS[curve]}"
        return _Valley(budget, nothing, nothing, nothing, Minimum(budget, *plain, len(group), False, reason))
    bottom = {"parabola": _parabola, "cubic": _cubic, "akima": _akima}[curve]
    smooth = _smoothed(group, curve)
    losses = np.vstack([group.loss, smooth * np.exp(np.clip(deviations(), -_LARGEST_DEVIATION, _LARGEST_DEVIATION))])
    log_params, loss = bottom(np.log(group.params), losses)
    log_tokens, _ = bottom(np.log(group.tokens), losses)
    if not (np.isfinite(log_params[0]) and np.isfinite(log_tokens[0])):
        reason = _reason(group, lowest)
        return _Valley(budget, log_params, log_tokens, loss, Minimum(budget, *plain, len(group), False, reason))
    intervals = [percentile_interval(table[1:][np.isfinite(table[1:])]) for table in (log_params, log_tokens, loss)]
    minimum = Minimum(
        budget,
        float(np.exp(log_params[0])),
        float(np.exp(log_tokens[0])),
        float(loss[0]),
        len(group),
        True,
        None,
        (float(np.exp(intervals[0][0])), float(np.exp(intervals[0][1]))),
        (float(np.exp(intervals[1][0])), float(np.exp(intervals[1][1]))),
        intervals[2],
    )
    return _Valley(budget, log_params, log_tokens, loss, minimum)


def _reason(group: Points, lowest: int) -> str:
    if group.params[lowest] in (group.params.min(), group.params.max()):
        side = "smallest" if group.params[lowest] == group.params.min() else "largest"
        return f"the lowest loss is at the {side} size tried"
    return "the curve has no minimum inside the sizes tried"


def _design(x: Array, degree: int) -> Array:
    centred = (x - x.mean()) / max(float(np.ptp(x)), 1e-12)
    return np.vander(centred, degree + 1, increasing=True)


def _smoothed(group: Points, curve: Curve) -> Array:
    """The curve's own values at the points (the data themselves for Akima, which interpolates)."""
    if curve == "akima":
        return group.loss
    design = _design(np.log(group.params), 3 if curve == "cubic" else 2)
    smooth: Array = design @ np.linalg.lstsq(design, group.loss, rcond=None)[0]
    return smooth


def _coefficients(x: Array, losses: Array, degree: int) -> tuple[Array, Callable[[Array], Array]]:
    """Least-squares coefficients [draws, degree + 1] in the scaled variable, and the way back to x."""
    design = _design(x, degree)
    centre, width = x.mean(), max(float(np.ptp(x)), 1e-12)
    coefficients = losses @ np.linalg.pinv(design).T
    return coefficients, lambda scaled: centre + width * scaled


def _inside(x: Array, place: Array, loss: Array, valid: Flags) -> tuple[Array, Array]:
    """Bottoms outside the sizes tried, or not valid, become NaN."""
    inside = valid & (place > x.min()) & (place < x.max())
    return np.where(inside, place, np.nan), np.where(inside, loss, np.nan)


def _parabola(x: Array, losses: Array) -> tuple[Array, Array]:
    """Bottoms [draws] in x, and loss there, of parabolas through losses [draws, points]; NaN where none is inside."""
    c, back = _coefficients(x, losses, 2)
    # The sizes tried span one unit of the scaled variable: a vertex beyond that is no bottom, and may be infinitely
    # far.
    convex = (c[:, 2] > 0) & (np.abs(c[:, 1]) < 2.0 * c[:, 2])
    place = np.where(convex, -c[:, 1], 0.0) / np.where(convex, 2.0 * c[:, 2], 1.0)
    return _inside(x, back(place), c[:, 0] + 0.5 * c[:, 1] * place, convex)


def _cubic(x: Array, losses: Array) -> tuple[Array, Array]:
    c, back = _coefficients(x, losses, 3)
    root = c[:, 2] ** 2 - 3.0 * c[:, 1] * c[:, 3]
    # The minimum of the two stationary points, written so that it survives a vanishing cubic term.
    below = c[:, 2] + np.sqrt(np.maximum(root, 0.0))
    valid = (root > 0) & (below > 0) & (np.abs(c[:, 1]) < below)
    place = np.where(valid, -c[:, 1], 0.0) / np.where(valid, below, 1.0)
    loss = c[:, 0] + place * (c[:, 1] + place * (c[:, 2] + place * c[:, 3]))
    return _inside(x, back(place), loss, valid)


def _akima(x: Array, losses: Array) -> tuple[Array, Array]:
    from scipy.interpolate import Akima1DInterpolator

    places, group = np.unique(x, return_inverse=True)
    counts = np.bincount(group)
    means = np.array([np.bincount(group, weights=row) / counts for row in losses])
    fine = np.linspace(places[0], places[-1], _AKIMA_NODES)
    values = Akima1DInterpolator(places, means, axis=1)(fine)
    lowest = values.argmin(axis=1)
    valid = (lowest > 0) & (lowest < _AKIMA_NODES - 1)
    return _inside(x, fine[lowest], values[np.arange(len(values)), lowest], valid)
