"""One law over all lines: what a factorized parameter is worth, or which parameters the lines share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scaling.analysis.lines import Line, line_seed, points_of, tuned_trials
from scaling.analysis.settings import Settings
from scaling.laws.draws import Draws, bootstrap
from scaling.laws.fitting import Fit, fit
from scaling.laws.noise_parts import noise_parts, part_draws
from scaling.laws.points import Array, Points
from scaling.laws.seed_noise import seed_noise
from scaling.laws.tuning_bias import bootstrap_tuned, tuned_deviations
from scaling.sweeps.counting import count


def fit_together(lines: Sequence[Line], settings: Settings) -> tuple[Fit, Draws | None]:
    """One law over all lines: `rank`, `rank_power` or `joint`, with its draws.

    Raises:
        FitError: the lines do not determine it, or their shapes are unknown.
    """
    cells = [cell for line in lines for cell in line.cells]
    points = rank_points(lines, settings)
    result = fit(points, settings.law, objective=settings.objective, delta=settings.delta)
    if not settings.bootstrap:
        return result, None
    noise, seed = seed_noise(points), line_seed("", settings.seed)
    trials, _ = tuned_trials(cells, noise)
    if trials is not None:
        sigma = noise.sigma if noise else None
        deviations = tuned_deviations(trials, result, draws=settings.bootstrap, seed=seed, sigma=sigma)
        return result, bootstrap_tuned(result, deviations)
    if points.designed:
        return result, part_draws(result, noise_parts(result), draws=settings.bootstrap, seed=seed)
    return result, bootstrap(result, draws=settings.bootstrap, seed=seed)


def rank_points(lines: Sequence[Line], settings: Settings) -> Points:
    """The points of all lines with rank ratios and, where every shape is known, factorized parameters."""
    points = points_of([cell for line in lines for cell in line.cells], settings.params_column)
    ratios = np.array([_ratio(line) for line in lines for cell in line.cells for _ in cell.rows])
    points = replace(points, rank_ratio=ratios)
    if not all(line.curve for line in lines):
        return points
    factorized, relative = _factorized(lines)
    return replace(points, factorized_params=factorized, relative_rank=relative)


def _ratio(line: Line) -> float:
    return float("nan") if line.rank_ratio is None else float(line.rank_ratio)


def _factorized(lines: Sequence[Line]) -> tuple[Array, Array]:
    """Factorized parameters and mean r/min(in, out) of every point, from the shapes of the lines."""
    factorized, relative = [], []
    for line in lines:
        assert line.curve is not None
        models = {rung.params: rung for rung in line.curve.rungs}
        for cell in line.cells:
            rung = models[cell.params]
            counts = count(rung.shape, rung.ranks)
            ratios = [rung.ranks[n] / min(pair) for n, pair in rung.shape.matrices().items()] if rung.ranks else [1.0]
            hidden = counts.attention + counts.feed_forward
            factorized += [float(hidden) if rung.ranks else 0.0] * len(cell.rows)
            relative += [sum(ratios) / len(ratios)] * len(cell.rows)
    return np.array(factorized), np.array(relative)
