"""Compute multipliers to expect from a grid before it is run: how narrow, and how large one must be to get a verdict.

All lines get losses of one plausible law plus seed noise, so the true multiplier is 1; the study's own comparison
(`laws.joint_comparison`) is then made, many times. Scatter beyond the seeds is not simulated: these widths are the
least to expect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scaling.errors import FitError
from scaling.laws.joint_comparison import JointComparison, compare_lines
from scaling.laws.points import Array, Points
from scaling.sweeps.grids import Plan
from scaling.sweeps.resolve import PlannedRun
from scaling.sweeps.simulate import NOISE, flops_per_token, loss_of, plausible_law, points_of, points_to_come

STUDIES = 5
DRAWS = 200  # per study: the ends of an interval to a tenth of its width


@dataclass(frozen=True)
class ExpectedComparison:
    """What a line's comparison with the reference is expected to give; None where lines cannot be compared.

    Attributes:
        model: of the interval: M3, or M1 for a line with too few budgets.
        factor: the 95 % interval of the compute multiplier at the centre of the shared budgets is value ×÷ this.
        verdict_beyond: a multiplier further from 1 than this factor, at the budget that tells most, gets a verdict.
        message: why there is no comparison.
    """

    line: str
    reference: str
    model: str | None
    factor: float | None
    verdict_beyond: float | None
    message: str | None


def simulate_comparisons(plan: Plan, *, noise: float = NOISE, studies: int = STUDIES) -> list[ExpectedComparison]:
    """The compute multipliers to expect for every line of a plan but the reference, the first dense line.

    Args:
        noise: standard deviation of one seed in log loss.
        studies: how many simulated studies; the median over them is given.
    """
    runs = {name: points_to_come(plan, name) for name in dict.fromkeys(r.line for r in (*plan.runs, *plan.pending))}
    if len(runs) < 2:
        return []
    reference = next((name for name, own in runs.items() if own[0].run.parameterization == "dense"), next(iter(runs)))
    column, convention = plan.params_column, plan.flops_convention
    alone = {name: points_of(own, column, convention) for name, own in runs.items()}
    points = _joined(runs, alone)
    truth = loss_of(plausible_law(alone[reference]), points)
    costs = {name: flops_per_token(own) for name, own in alone.items()}
    rng = np.random.default_rng(0)
    found = []
    for _ in range(studies):
        losses = truth * np.exp(noise * rng.standard_normal(len(points)))
        try:
            found.append(compare_lines(points.with_loss(losses), reference, draws=DRAWS, cost_per_token=costs))
        except FitError as error:
            return [ExpectedComparison(n, reference, None, None, None, error.what) for n in runs if n != reference]
    return [_expected(name, reference, found) for name in runs if name != reference]


def _expected(name: str, reference: str, found: list[JointComparison]) -> ExpectedComparison:
    widths, least = [], []
    for one in found:
        if name in one.left_out:
            return ExpectedComparison(name, reference, None, None, None, one.left_out[name])
        compared = one.line(name)
        low, high = compared.headline.interval
        widths.append(math.log(high / low) / 2)
        least.append(float(compared.verdict.band.simultaneous.min()))
    model = found[0].line(name).model
    return ExpectedComparison(name, reference, model, _factor(widths), _factor(least), None)


def _factor(logs: list[float]) -> float:
    return math.exp(float(np.median(logs)))


def _joined(runs: dict[str, list[PlannedRun]], alone: dict[str, Points]) -> Points:
    """The points of all lines, with the labels that a comparison reads."""
    every = [run for own in runs.values() for run in own]

    def together(name: str) -> Array:
        return np.concatenate([getattr(points, name) for points in alone.values()])

    budgets = np.array([np.nan if run.budget is None else run.budget for run in every])
    return Points(
        together("params"),
        together("tokens"),
        together("loss"),
        flops=together("flops"),
        budget=budgets if np.isfinite(budgets).all() else None,
        line=np.array([run.line for run in every]),
        cell=np.array([str(run.cell) for run in every]),
        seed=np.array([str(run.run.seed) for run in every]),
    )
