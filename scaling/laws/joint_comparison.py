"""Lines compared in one joint law: compute multipliers with a simultaneous band, and the verdict it supports.

    result = compare_lines(points, "dense")           # Points with a column `line`
    result.lines[0].verdict.word, result.lines[0].headline

At compute C, ℓ is the larger of the two frontier losses; the multiplier of a line is C over the compute at which the
better line reaches ℓ, inverted for the worse. M3 (A, B, α, β per line, E shared) gives the verdict over all shared
budgets; M2 stands beside it at their geometric mean, as "if the lines share exponents". Draws carry the parts of the
noise (`noise_parts`): what the lines share cancels, what belongs to a line's budget does not. A line with too few
budgets for a law of its own gets M1 with the reference, which is an assumption and named as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling.errors import FitError
from scaling.laws.chosen_again import TunedRuns
from scaling.laws.compute_multiplier import CostPerToken
from scaling.laws.gls_tests import NestedTest
from scaling.laws.joint_models import ModelName, fit_model, model_tests
from scaling.laws.line_comparison import JointFit, LineComparison, compare_line, has_law
from scaling.laws.noise_parts import NoiseParts
from scaling.laws.points import Points
from scaling.laws.simultaneous import DEFAULT_MARGIN


@dataclass(frozen=True, eq=False)
class JointComparison:
    """Every line against the reference.

    Attributes:
        models: the nested models that could be fitted over the lines with enough budgets.
        tests: each of them in the next, with its power. None selects anything.
        noise: the parts of the noise of the largest model.
        left_out: why a line is not compared, by line.
    """

    reference: str
    lines: tuple[LineComparison, ...]
    models: Mapping[ModelName, JointFit]
    tests: tuple[NestedTest, ...]
    noise: NoiseParts
    left_out: Mapping[str, str]

    def line(self, name: str) -> LineComparison:
        """The comparison of one line.

        Raises:
            FitError: it is not compared; the message says why.
        """
        for compared in self.lines:
            if compared.line == name:
                return compared
        reason = self.left_out.get(name, "there is no such line")
        raise FitError("this line is not compared", got=f"{name}: {reason}", allowed=", ".join(self.left_out) or None)


def compare_lines(
    points: Points,
    reference: str,
    *,
    objective: str = "log_mse",
    delta: float | None = None,
    draws: int = 1000,
    seed: int = 0,
    cost_per_token: CostPerToken | None = None,
    margin: float = DEFAULT_MARGIN,
    tuned: TunedRuns | None = None,
) -> JointComparison:
    """Compares every line with `reference`.

    Args:
        points: with a column `line`; `budget` gives the budgets, `cell` and `seed` match runs of different lines.
        reference: the line that the others are compared with.
        objective, delta: of the fits; least squares in log loss is what the noise parts assume.
        draws: refits behind every interval. seed: of them.
        cost_per_token: cost of one training token at sizes N [m], by line; a line without one counts 6·N FLOPs.
        margin: relative difference of compute within which lines are called equivalent.
        tuned: all runs of tuned cells, of which `points` are those kept: every draw then chooses again.

    Raises:
        FitError: no line can be compared; the message says why.
    """
    lines = points.lines()
    if reference not in lines or len(lines) < 2:
        raise FitError("lines are compared with a reference line", got=reference, allowed=", ".join(lines))
    costs = cost_per_token or {}
    settings = _FitSettings(objective, delta, draws, seed, tuned)
    able = [name for name, own in lines.items() if has_law(own)]
    separate = reference in able and len(able) > 1
    together = able if separate else list(lines)
    names: tuple[ModelName, ...] = ("M0", "M1", "M2", "M3") if separate else ("M0", "M1")
    models = {name: settings.model(_of_lines(points, together), name) for name in names}
    largest, beside = models[names[-1]], models.get("M2")
    compared, left_out = [], {}
    for name in lines:
        if name == reference:
            continue
        try:
            if name in together:
                compared.append(compare_line(name, largest, beside, reference, costs, margin))
            else:
                own = settings.model(_of_lines(points, [reference, name]), "M1")
                compared.append(compare_line(name, own, None, reference, costs, margin))
        except FitError as error:
            left_out[name] = str(error)
    if not compared:
        raise FitError("no line can be compared", got="; ".join(f"{name}: {why}" for name, why in left_out.items()))
    tests = model_tests({name: model.fit for name, model in models.items()}, largest.parts, reference)
    return JointComparison(reference, tuple(compared), models, tests, largest.parts, left_out)


@dataclass(frozen=True)
class _FitSettings:
    objective: str
    delta: float | None
    draws: int
    seed: int
    tuned: TunedRuns | None

    def model(self, points: Points, model: ModelName) -> JointFit:
        result = fit_model(points, model, objective=self.objective, delta=self.delta)
        return JointFit(model, result, self.draws, self.seed, self.tuned)


def _of_lines(points: Points, names: list[str]) -> Points:
    assert points.line is not None
    return points.select(np.isin(points.line, names))
