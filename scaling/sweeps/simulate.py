"""Intervals to expect from a grid before it is run, from simulated outcomes of the design.

Every planned run gets the loss of a plausible law plus seed noise; the study is refitted many times, and the spread of
its answers is what the real one would have. The law's form is taken as true, so these widths are the least to expect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.errors import FitError
from scaling.laws.draws import refit
from scaling.laws.fitting import fit
from scaling.laws.frontier import frontier
from scaling.laws.points import Points
from scaling.rows import CellKey
from scaling.sweeps.grids import Plan
from scaling.sweeps.resolve import PlannedRun

Array = npt.NDArray[np.float64]

NOISE = 0.01  # seed noise of log loss: sd .018 to .030 nats at 1.6 to 2.2 nats, measured on byte models 2026-11-21
FLOOR_NATS = 1.7  # E of Hoffmann et al. 2022, arXiv 2203.15556, equation 10: 1.69
REDUCIBLE_NATS = 1.0  # what is left above the floor in the middle of the grid; an assumption
EXPONENT_SUM = 0.7  # alpha + beta of Besiroglu et al. 2024, arXiv 2404.10102: .35 + .37


@dataclass(frozen=True)
class Expected:
    """Half-widths of the 95 % intervals that a line of a plan is expected to give; None where it gives no law."""

    line: str
    runs: int
    exponent_n: float | None  # of N in C
    target_compute: float
    factor_n: float | None  # N_opt at the target: a factor up or down
    loss_relative: float | None  # loss at the target, relative
    failed: float | None  # share of simulated studies whose fit did not converge
    message: str | None  # why there is no law


def points_of(runs: Sequence[PlannedRun], column: str, convention: str, loss: Array | None = None) -> Points:
    """The runs of one line as points, with a loss of one where none is given."""
    flops = [run.flops if convention == "exact" else run.flops_6nd for run in runs]
    return Points(
        np.array([run.counts.column(column) for run in runs], dtype=float),
        np.array([run.run.tokens for run in runs], dtype=float),
        np.ones(len(runs)) if loss is None else loss,
        flops=np.array(flops),
    )


def plausible_law(points: Points, exponent: float = 0.5) -> dict[str, float]:
    """E + A/N^alpha + B/D^beta whose optimum goes through the middle of the points with N_opt in C^exponent."""
    n, d = (float(np.exp(np.log(values).mean())) for values in (points.params, points.tokens))
    beta = exponent * EXPONENT_SUM
    alpha = EXPONENT_SUM - beta
    # At the optimum alpha·A/N^alpha = beta·B/D^beta.
    return {
        "E": FLOOR_NATS,
        "A": REDUCIBLE_NATS * beta / EXPONENT_SUM * n**alpha,
        "alpha": alpha,
        "B": REDUCIBLE_NATS * alpha / EXPONENT_SUM * d**beta,
        "beta": beta,
    }


def loss_of(law: Mapping[str, float], points: Points) -> Array:
    """Loss of the law at every point."""
    loss: Array = law["E"] + law["A"] * points.params ** -law["alpha"] + law["B"] * points.tokens ** -law["beta"]
    return loss


def simulate(
    plan: Plan,
    *,
    target: float | None = None,
    noise: float = NOISE,
    studies: int = 200,
) -> list[Expected]:
    """The intervals to expect for every line of a plan, stages to come included: one setting of every cell and seed.

    Args:
        target: compute of the prediction, FLOPs; ten times the largest run where left out.
        noise: standard deviation of one seed in log loss.
        studies: how many simulated studies.
    """
    lines = dict.fromkeys(run.line for run in (*plan.runs, *plan.pending))
    return [_simulate_line(plan, line, target, noise, studies) for line in lines]


def points_to_come(plan: Plan, line: str) -> list[PlannedRun]:
    """The runs of a line that become data points: of the settings tried in a cell with one seed, the first."""
    runs: dict[tuple[CellKey, int], PlannedRun] = {}
    for planned in (*plan.runs, *plan.pending):
        if planned.line == line:
            runs.setdefault((planned.cell, planned.run.seed), planned)
    return list(runs.values())


def _simulate_line(
    plan: Plan,
    line: str,
    target: float | None,
    noise: float,
    studies: int,
) -> Expected:
    runs = points_to_come(plan, line)
    points = points_of(runs, plan.params_column, plan.flops_convention)
    truth = loss_of(plausible_law(points), points)
    goal = target or 10 * float(points.compute.max())
    try:
        fitted = fit(points.with_loss(truth))
    except FitError as error:
        return Expected(line, len(runs), None, goal, None, None, None, error.what)
    losses = truth * np.exp(noise * np.random.default_rng(0).standard_normal((studies, len(runs))))
    draws = refit(fitted, losses, np.ones(len(runs)), kind="residuals")
    optimum = frontier(fitted, draws=draws, flops_per_token=flops_per_token(points)).at(goal)
    low, high = draws.exponent_intervals()["N"]
    return Expected(
        line=line,
        runs=len(runs),
        exponent_n=(high - low) / 2,
        target_compute=goal,
        factor_n=math.sqrt(optimum.intervals["N"][1] / optimum.intervals["N"][0]),
        loss_relative=(optimum.intervals["loss"][1] - optimum.intervals["loss"][0]) / 2 / optimum.loss,
        failed=draws.failed / draws.drawn,
        message=None,
    )


def flops_per_token(points: Points) -> Callable[[Array], Array]:
    """FLOPs per token as a multiple of N: the multiple that the points had, in the geometric mean."""
    multiple = float(np.exp(np.log(points.compute / (points.params * points.tokens)).mean()))
    return lambda params: multiple * params
