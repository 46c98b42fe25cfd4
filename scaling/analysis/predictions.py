"""Predictions: the compute-optimal model of a line at a given compute, with two kinds of doubt beside each number.

The interval holds what the noise of the points allows under one form of law. The **form range** is the min–max over
forms, objectives and approaches: far from the data it is the larger of the two, and no bootstrap sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scaling import checks
from scaling.analysis.lines import Line
from scaling.checks import Check
from scaling.errors import FitError
from scaling.laws.frontier import Frontier, Optimum
from scaling.laws.sensitivity import form_range


@dataclass(frozen=True)
class Prediction:
    """One line at one compute; `optimum` is None where the line has no law."""

    line: Line
    compute: float
    optimum: Optimum | None
    form_range: dict[str, tuple[float, float]]
    checks: tuple[Check, ...]


def predict(line: Line, compute: float) -> Prediction:
    """The compute-optimal N, D and loss of `line` at `compute` training FLOPs.

    Raises:
        FitError: `compute` is not a positive number.
    """
    if not (np.isfinite(compute) and compute > 0):
        raise FitError("compute is a number of training FLOPs", got=compute, allowed="a positive number, such as 1e22")
    frontier = line.frontier_on(line.axis, compute)
    if frontier is None:
        message = f"{line.name} has no law to predict from: {line.refused or 'no trade-off between N and D'}."
        return Prediction(line, compute, None, {}, (checks.NO_LAW(message),))
    best = frontier.at(compute)
    ranges = form_range(
        frontier.fit,
        compute,
        isoflop=line.isoflop,
        flops_per_token=frontier.flops_per_token,
        params_range=frontier.params_range,
    ).ranges
    return Prediction(line, compute, best, ranges, tuple(_checks(line, frontier, best)))


def _checks(line: Line, frontier: Frontier, best: Optimum) -> Iterator[Check]:
    largest = float(line.points.compute.max())
    decades = float(np.log10(best.compute / largest))
    if decades > checks.MAX_DECADES.value:
        message = (
            f"{best.compute:.3g} FLOPs is {decades:.1f} decades above the largest run of {line.name} ({largest:.3g})."
        )
        yield checks.EXTRAPOLATION(message)
    if line.curve is None and line.axis == "6ND":
        yield checks.FLOPS_6ND_ASSUMED("The table has no shapes, so C is counted as 6·N·D.")
    if "unique_tokens" in frontier.fit.form.needs:
        yield checks.TOKENS_NOT_REPEATED("The optimum is that of fresh tokens: none is seen twice.")
    if line.curve is not None and line.curve.extrapolated(best.params):
        message = f"N = {best.params:.3g} is outside the shapes of {line.name}: FLOPs per token are extrapolated."
        yield checks.SIZE_EXTRAPOLATED(message)
    if best.at_edge:
        yield checks.OPTIMUM_AT_EDGE(f"The law of {line.name} has no optimum among the sizes searched.")
    if frontier.draws is not None and frontier.draws.unreliable:
        message = (
            f"More than {checks.MAX_LOST_DRAWS.value:.0%} of the draws of {line.name} failed or ended at a bound: "
            "its intervals are unreliable."
        )
        yield checks.INTERVAL_UNRELIABLE(message)
