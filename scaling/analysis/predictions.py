"""Predictions of a line: the compute-optimal model at a compute, or the loss at a size and a number of tokens.

Several forms are stacked and their intervals calibrated on the line's own held-out budgets (`laws.extrapolation`). The
**form range** beside them is the min–max over forms, objectives and approaches. A law that is none of the stacked
forms, or whose parameters were fixed or tied, predicts alone, and says so. Every warning of the fit is carried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from scaling import checks
from scaling.analysis.lines import Line
from scaling.checks import Check, by_severity
from scaling.errors import FitError
from scaling.laws.determination import NotDetermined, undetermined_loss
from scaling.laws.draws import Interval
from scaling.laws.extrapolation import STACKED_FORMS, Extrapolation, FormAnswer, StackedPrediction
from scaling.laws.frontier import Frontier, plain_points
from scaling.laws.rolling_holdouts import Calibration
from scaling.laws.sensitivity import form_range
from scaling.laws.solver.objective_terms import System


@dataclass(frozen=True)
class Prediction:
    """What a line is predicted to do.

    Attributes:
        compute: training FLOPs asked for; None where N and D were.
        params, tokens, loss: None where they are not determined; `refused` then says why.
        slope: d log N_opt / d log C of the line's own law at `compute`.
        intervals: 95 %, by `N`, `D`, `loss` (of the law), `loss_of_run` (of one further run) and `slope`.
        form_range: min and max of N, D and loss over forms, objectives and approach 2.
        forms: what each stacked form says. calibration: of the intervals; None where one law predicts alone.
    """

    line: Line
    compute: float | None
    params: float | None
    tokens: float | None
    loss: float | None
    refused: str | None = None
    slope: float | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    form_range: Mapping[str, Interval] = field(default_factory=dict)
    forms: tuple[FormAnswer, ...] = ()
    calibration: Calibration | None = None
    checks: tuple[Check, ...] = ()


def predict(line: Line, compute: float) -> Prediction:
    """The compute-optimal N, D and loss of `line` at `compute` training FLOPs.

    Raises:
        FitError: `compute` is not a positive number.
    """
    _positive("compute in training FLOPs", compute, "1e22")
    if line.optima is not None:
        at = line.optima.at(compute)
        message = f"{line.name} holds optima: N and D are on the power laws through them, without intervals."
        notes = (checks.NO_LAW(message),)
        return Prediction(
            line, compute, at["N"], at["D"], at.get("loss"), slope=line.optima.exponents["N"], checks=notes
        )
    own = line.frontier_on(line.axis, compute)
    if own is None:
        return _refused(line, compute, None, None, _no_law(line))
    single = own.answer(compute)
    stacked = stacked_forms(line)
    answer = single if stacked is None else stacked.at_compute(compute)
    if isinstance(answer, NotDetermined) or isinstance(single, NotDetermined):
        why = answer if isinstance(answer, NotDetermined) else single
        return _refused(line, compute, None, None, str(why), tuple(_of_place(line, own, compute, None)))
    ranges = form_range(
        own.fit,
        compute,
        isoflop=line.isoflop,
        flops_per_token=own.flops_per_token,
        params_range=own.params_range,
    ).ranges
    forms = answer.forms if isinstance(answer, StackedPrediction) else ()
    calibration = answer.calibration if isinstance(answer, StackedPrediction) else None
    trust = _of_calibration(line, calibration) if calibration else (_alone(line),)
    checks_found = (*_of_place(line, own, compute, answer.params), *trust)
    slope = {name: pair for name, pair in single.intervals.items() if name == "slope"}
    return Prediction(
        line,
        compute,
        answer.params,
        answer.tokens,
        answer.loss,
        slope=single.slope,
        intervals={**answer.intervals, **slope},
        form_range=ranges,
        forms=forms,
        calibration=calibration,
        checks=_with_fit(line, checks_found),
    )


def predict_loss(line: Line, params: float, tokens: float) -> Prediction:
    """The loss of `line` at N = `params` and D = `tokens`: of the law, and of one further run.

    Raises:
        FitError: N or D is not a positive number.
    """
    _positive("params", params, "1e9")
    _positive("tokens", tokens, "2e10")
    own = line.frontier
    if own is None:
        return _refused(line, None, params, tokens, _no_law(line))
    compute = tokens * float(own.flops_per_token(np.array([params]))[0])
    place = tuple(_of_place(line, own, compute, params))
    stacked = stacked_forms(line)
    answer = undetermined_loss(own.fit, params, tokens) if stacked is None else stacked.at(params, tokens)
    if isinstance(answer, NotDetermined):
        return _refused(line, None, params, tokens, str(answer), place)
    if answer is None:
        loss, intervals = _of_one_law(line, params, tokens)
        alone = (*place, _alone(line))
        return Prediction(line, None, params, tokens, loss, intervals=intervals, checks=_with_fit(line, alone))
    losses = [form.loss for form in answer.forms]
    return Prediction(
        line,
        None,
        params,
        tokens,
        answer.loss,
        intervals=answer.intervals,
        form_range={"loss": (min(losses), max(losses))},
        forms=answer.forms,
        calibration=answer.calibration,
        checks=_with_fit(line, (*place, *_of_calibration(line, answer.calibration))),
    )


def _positive(name: str, value: float, example: str) -> None:
    if not (np.isfinite(value) and value > 0):
        raise FitError(f"{name} is a positive number", got=value, allowed=f"a positive number, such as {example}")


def _no_law(line: Line) -> str:
    return f"{line.name} has no law to predict from: {line.refused or 'no trade-off between N and D'}"


def _refused(
    line: Line,
    compute: float | None,
    params: float | None,
    tokens: float | None,
    why: str,
    notes: tuple[Check, ...] = (),
) -> Prediction:
    code = checks.NO_LAW if line.frontier is None else checks.NOT_DETERMINED
    refused = code(f"{why}." if line.frontier is None else f"{line.name}: {why}.")
    return Prediction(line, compute, params, tokens, None, why, checks=_with_fit(line, (refused, *notes)))


def stacked_forms(line: Line) -> Extrapolation | None:
    """The stacked forms, where the line's own law is one of them and all of its parameters were fitted."""
    if line.law is None or line.law.fit.law not in STACKED_FORMS or line.law.fit.layout.constrained:
        return None
    return line.extrapolation


def stacked_frontier(line: Line, compute: Sequence[float]) -> list[StackedPrediction] | None:
    """What the stacked forms say along `compute`; None where they are not stacked, or not determined somewhere."""
    stacked = None if line.undetermined else stacked_forms(line)
    if stacked is None:
        return None
    answers = [stacked.at_compute(level) for level in compute]
    determined = [answer for answer in answers if isinstance(answer, StackedPrediction)]
    return determined if len(determined) == len(answers) else None


def holdout_coverage(line: Line) -> Iterator[Check]:
    """Whether the line's own hold-outs lay outside their calibrated intervals too often."""
    stacked = stacked_forms(line)
    share = None if stacked is None else stacked.calibration.share_inside
    if stacked is not None and share is not None and share < checks.MIN_HOLDOUT_SHARE.value:
        yield checks.HOLDOUT_COVERAGE(f"{line.name}: {stacked.calibration.text}.")


def _of_one_law(line: Line, params: float, tokens: float) -> tuple[float, dict[str, Interval]]:
    """Loss of the line's own law, and intervals from its draws."""
    law = line.law
    assert law is not None
    place = plain_points(np.array([params]), np.array([tokens]))
    loss = float(law.fit.predict(place)[0])
    if law.draws is None or not len(law.draws.vectors):
        return loss, {}
    losses = np.exp(System(law.fit.layout, place).log_loss(law.draws.vectors)[:, 0])
    intervals = {"loss": law.draws.around(losses, loss, in_log=True)}
    if law.parts is not None:
        noisy = losses * np.exp(law.parts.run_noise(np.random.default_rng(0), len(losses)))
        intervals["loss_of_run"] = law.draws.around(noisy, loss, in_log=True)
    return loss, intervals


def _alone(line: Line) -> Check:
    assert line.law is not None
    return checks.NOT_CALIBRATED(
        f"{line.name} is predicted by {line.law.fit.law} alone: its interval is not calibrated."
    )


def _with_fit(line: Line, notes: tuple[Check, ...]) -> tuple[Check, ...]:
    """What was noticed, and every warning of the fit."""
    of_fit = [check for check in line.law.checks if check.severity != "info"] if line.law else []
    named = [replace(check, message=f"{line.name}: {check.message.removesuffix('.')}.") for check in of_fit]
    return tuple(by_severity([*notes, *named]))


def _of_calibration(line: Line, calibration: Calibration) -> Iterator[Check]:
    if calibration.share_inside is None:
        yield checks.NOT_CALIBRATED(f"{line.name}: {calibration.text}.")
    elif calibration.share_inside < checks.MIN_HOLDOUT_SHARE.value:
        yield checks.HOLDOUT_COVERAGE(f"{line.name}: {calibration.text}.")


def _of_place(line: Line, own: Frontier, compute: float, params: float | None) -> Iterator[Check]:
    largest = float(line.points.compute.max())
    decades = float(np.log10(compute / largest))
    if decades > checks.MAX_DECADES.value:
        message = f"{compute:.3g} FLOPs is {decades:.1f} decades above the largest run of {line.name} ({largest:.3g})."
        yield checks.EXTRAPOLATION(message)
    if line.curve is None and line.axis == "6ND":
        yield checks.FLOPS_6ND_ASSUMED("The table has no shapes, so C is counted as 6·N·D.")
    if "unique_tokens" in own.fit.form.needs:
        yield checks.TOKENS_NOT_REPEATED("The optimum is that of fresh tokens: none is seen twice.")
    if params is not None and line.curve is not None and line.curve.extrapolated(params):
        message = f"N = {params:.3g} is outside the shapes of {line.name}: FLOPs per token are extrapolated."
        yield checks.SIZE_EXTRAPOLATED(message)
    if params is None and own.at(compute).at_edge:
        yield checks.OPTIMUM_AT_EDGE(f"The law of {line.name} has no optimum among the sizes searched.")
    if own.draws is not None and own.draws.unreliable:
        message = (
            f"More than {checks.MAX_LOST_DRAWS.value:.0%} of the draws of {line.name} failed or ended at a bound: "
            "intervals of its own law are unreliable."
        )
        yield checks.INTERVAL_UNRELIABLE(message)
