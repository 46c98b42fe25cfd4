"""All lines of a study in one joint law: the compute multipliers, and what a factorized parameter is worth.

`laws.joint_comparison` does the numerics. Here its points are made from the cells of all lines, and every line counts
compute along its own curve of FLOPs per token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaling.analysis.joint_law import rank_points
from scaling.analysis.lines import Line, line_seed, points_of, tuned_trials
from scaling.analysis.settings import Settings
from scaling.errors import FitError
from scaling.laws.chosen_again import TunedRuns
from scaling.laws.comparison import Axis
from scaling.laws.compute_multiplier import CostPerToken
from scaling.laws.determination import undetermined_optimum
from scaling.laws.joint_comparison import JointComparison, compare_lines
from scaling.laws.line_comparison import LineComparison
from scaling.laws.points import Points
from scaling.laws.rank_comparison import RankComparison, compare_ranks
from scaling.laws.seed_noise import seed_noise

NAME = "all lines"  # of the joint law, whose draws have a seed of their own


def compare_jointly(lines: Sequence[Line], reference: Line, settings: Settings) -> JointComparison:
    """Every line against `reference`.

    Raises:
        FitError: no line can be compared; the message says why.
    """
    if not settings.bootstrap:
        raise FitError("lines are compared by draws", got="0 draws", allowed="1000", hint="--bootstrap 1000")
    return compare_lines(
        joint_points(lines, settings),
        reference.name,
        draws=settings.bootstrap,
        seed=line_seed(NAME, settings.seed),
        cost_per_token=costs_on(common_axis(lines), lines),
        tuned=tuned_runs(lines, settings),
    )


def tuned_runs(lines: Sequence[Line], settings: Settings) -> TunedRuns | None:
    """All runs of all cells, where settings were tuned over in some of them; None where nowhere."""
    cells = [cell for line in lines for cell in line.cells]
    noise = seed_noise(points_of(cells, settings.params_column))
    trials, _ = tuned_trials(cells, noise)
    return None if trials is None else TunedRuns(trials, noise.sigma if noise else None)


def compare_factorized(lines: Sequence[Line], settings: Settings) -> RankComparison:
    """κ of every rank ratio with the test of the law `rank`.

    Raises:
        FitError: no line is factorized, shapes are unknown, or the points do not determine κ.
    """
    if all(line.rank_ratio is None for line in lines):
        raise FitError("kappa is of factorized parameters", got="no line with a rank ratio")
    if not settings.bootstrap:
        raise FitError("kappa is given with an interval", got="0 draws", allowed="1000", hint="--bootstrap 1000")
    return compare_ranks(rank_points(lines, settings), draws=settings.bootstrap, seed=line_seed(NAME, settings.seed))


def joint_points(lines: Sequence[Line], settings: Settings) -> Points:
    """The points of all lines, without the highest losses that each line's law leaves out."""
    points = points_of([cell for line in lines for cell in line.cells], settings.params_column)
    if not settings.drop_highest:
        return points
    assert points.line is not None
    kept = np.ones(len(points), dtype=bool)
    for line in lines:
        own = np.flatnonzero(points.line == line.name)
        kept[own[np.argsort(points.loss[own], kind="stable")[len(own) - settings.drop_highest :]]] = False
    return points.select(kept)


def common_axis(lines: Sequence[Line]) -> str:
    """How C is counted for all lines: `6ND` unless every line has shapes."""
    axes = {line.axis for line in lines}
    return axes.pop() if len(axes) == 1 else "6ND"


def costs_on(axis: str, lines: Sequence[Line]) -> CostPerToken:
    """Cost per trained token of every line on one axis; a line without shapes counts 6·N FLOPs."""
    return {line.name: line.costs[axis] for line in lines if line.curve is not None or axis != "6ND"}


def on_axis(compared: LineComparison, axis: Axis, lines: Sequence[Line]) -> LineComparison | None:
    """The comparison at equal cost of another kind; None where a line has no such cost, or they share none."""
    pair = [line for line in lines if line.name in (compared.line, compared.reference)]
    if any(axis not in line.costs for line in pair):
        return None
    try:
        return compared.on_axis(costs_on(axis, pair))
    except FitError:
        return None


def not_determined(compared: LineComparison) -> str | None:
    """Why the joint law is no answer; None where it is."""
    why = undetermined_optimum(compared.joint.fit, compared.joint.draws)
    return None if why is None else why.reason
