"""What a factorized parameter is worth, and whether the lines differ in anything else.

`rank` says that lines differ only in N_eff = N_plain + κ·N_fact. Where a line's data term differs too, κ absorbs
it: with κ = 1 and B 10 % larger it comes out at .75, its interval excludes 1, and the fit looks fine
(benchmarks/verdicts.py). So `rank` is tested against `rank` with a B for every line, and the test's power stands beside
it. Lines with different optimizers differ in more than rank: κ is then of both together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scaling.errors import FitError
from scaling.laws.draws import Interval
from scaling.laws.fitting import Fit, fit
from scaling.laws.forms import RANK, RANK_POWER
from scaling.laws.gls_tests import NestedTest, nested_test
from scaling.laws.joint_models import embedded
from scaling.laws.law_intervals import parameter_intervals
from scaling.laws.noise_parts import NoiseParts, noise_parts, part_draws
from scaling.laws.points import Points
from scaling.laws.solver.objective_terms import System

_DATA_TERM = 0.10  # of B: the change whose power is printed (assumption)
_RATIOS_FOR_POWER = 3  # rank ratios for a law κ = ρ^γ


@dataclass(frozen=True, eq=False)
class RankComparison:
    """κ per rank ratio with its test.

    Attributes:
        fit: the law `rank` over all lines.
        noise: its noise parts.
        kappa: rank ratio -> κ and its 95 % interval.
        test: `rank` in `rank` with a B per line. Rejected: κ also holds what the data terms differ by.
        with_data_terms: the larger law, None where it is not determined.
        kappa_beside: κ under that larger law, by rank ratio.
        gamma: the exponent of κ = ρ^γ with its interval, from three rank ratios on; else None.
    """

    fit: Fit
    noise: NoiseParts
    kappa: Mapping[float, tuple[float, Interval]]
    test: NestedTest
    with_data_terms: Fit | None
    kappa_beside: Mapping[float, tuple[float, Interval]]
    gamma: tuple[float, Interval] | None


def compare_ranks(
    points: Points, *, objective: str = "log_mse", delta: float | None = None, draws: int = 1000, seed: int = 0
) -> RankComparison:
    """κ of every rank ratio, and the test of the law it comes from.

    Args:
        points: with `line`, `rank_ratio` and `factorized_params`, as the law `rank` asks.
        objective, delta: of the fits. draws: refits behind every interval. seed: of them.

    Raises:
        FitError: the points do not determine κ.
    """
    if points.line is None:
        raise FitError("kappa is tested between lines", got="points without a line", allowed="a column `line`")
    small = fit(points, RANK, objective=objective, delta=delta)
    parts = noise_parts(small)
    large = _with_data_terms(small, points, objective, delta)
    return RankComparison(
        fit=small,
        noise=parts,
        kappa=_kappas(small, parts, draws, seed),
        test=_test(small, large, parts),
        with_data_terms=large if large.status in ("ok", "at_bound") else None,
        kappa_beside=_kappas(large, noise_parts(large), draws, seed) if large.status in ("ok", "at_bound") else {},
        gamma=_gamma(points, objective, delta, draws, seed),
    )


def _with_data_terms(small: Fit, points: Points, objective: str, delta: float | None) -> Fit:
    """`rank` with a B per line, from the optimum of `rank`: the law is smooth between the two."""
    form = replace(RANK, name="rank with B per line", free=("B",), needs=(*RANK.needs, "line"))
    start = dict(small.parameters) | {f"B[{line}]": small.parameters["B"] for line in points.lines()}
    return fit(points, form, objective=objective, delta=delta, near=replace(small, parameters=start))


def _test(small: Fit, large: Fit, parts: NoiseParts) -> NestedTest:
    """The test, with the least power over the low-rank lines."""
    vector = embedded(small, large)
    system = System(large.layout, large.points)
    base, jacobian = system.log_loss(vector[None])[0], system.jacobian(vector)
    tests = []
    for line, own in large.points.lines().items():
        if own.rank_ratio is None or np.isnan(own.rank_ratio).all():
            continue
        changed = vector.copy()
        changed[large.layout.index(f"B[{line}]")] += np.log1p(_DATA_TERM)
        change = system.log_loss(changed[None])[0] - base
        words = f"a data term larger by {_DATA_TERM:.0%} in {line}"
        tests.append(
            nested_test(small, parts, jacobian, change, names=("rank", "rank with B per line"), alternative=words)
        )
    return min(tests, key=lambda test: test.power)


def _kappas(fit: Fit, parts: NoiseParts, draws: int, seed: int) -> dict[float, tuple[float, Interval]]:
    """κ of every ratio with its interval, which ends where the solver's search ends."""
    intervals = parameter_intervals(part_draws(fit, parts, draws=draws, seed=seed))
    kappas = {}
    for ratio in fit.layout.ratios:
        name = f"kappa@{ratio:g}"
        place = fit.layout.index(name)
        least, most = float(np.exp(fit.layout.lower[place])), float(np.exp(fit.layout.upper[place]))
        low, high = intervals[name]
        kappas[ratio] = fit.parameters[name], (max(low, least), min(high, most))
    return kappas


def _gamma(points: Points, objective: str, delta: float | None, draws: int, seed: int) -> tuple[float, Interval] | None:
    ratios = points.rank_ratio[~np.isnan(points.rank_ratio)] if points.rank_ratio is not None else np.empty(0)
    if points.relative_rank is None or len(np.unique(ratios)) < _RATIOS_FOR_POWER:
        return None
    result = fit(points, RANK_POWER, objective=objective, delta=delta)
    sample = part_draws(result, noise_parts(result), draws=draws, seed=seed)
    return result.parameters["gamma"], sample.interval("gamma")
