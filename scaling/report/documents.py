"""The JSON documents of `fit`, `predict` and `compare`: plain values, finite numbers, None for unknown.

Every document has `schema_version`; keys are added, never renamed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from scaling import checks
from scaling.analysis.lines import Line
from scaling.analysis.predictions import Prediction, predict, predict_loss, stacked_frontier
from scaling.analysis.rates import NORMS, Pair, Tuned, claimed_pairs, matched_pairs, tunings
from scaling.analysis.serving import serving
from scaling.analysis.study import Study
from scaling.checks import Check, by_severity
from scaling.files import SCHEMA_VERSION, JsonObject
from scaling.laws.fit_checks import fit_checks
from scaling.laws.joint_comparison import JointComparison
from scaling.laws.law_intervals import parameter_intervals
from scaling.laws.noise_parts import noise_parts
from scaling.laws.rolling_holdouts import Calibration
from scaling.report.comparison_document import kappa_json, line_json, test_json
from scaling.report.decision_tables import decision_checks, made_decision
from scaling.report.serving_document import comparison_json, decision_json

_NOT_PRICED: JsonObject = {"target_loss": None, "rows": [], "break_even": [], "checks": []}
_LEVELS = 3  # of compute, where a line has no budgets


def fits_json(study: Study) -> JsonObject:
    """`scaling fit --json`: approach 3 of every line, then approaches 2 and 1 where its points allow them."""
    noise = study.noise
    document: JsonObject = finite(
        {
            "schema_version": SCHEMA_VERSION,
            "flops_convention": study.convention,
            "seed_noise_nats": noise.sigma if noise else None,
            "fits": [*_together(study), *(fit for line in study.lines for fit in _fits(study, line))],
            "dropped": [{"run": d.run, "line": d.line, "reason": d.reason} for d in study.dropped],
            "checks": [check.to_json() for check in study.law_checks],
        }
    )
    return document


def predictions_json(study: Study, compute: Sequence[float] | None = None) -> JsonObject:
    """`scaling predict --json`: compute-optimal N, D and loss of every line at each of `compute` FLOPs.

    `compute` is `analysis.predict` of the settings where it is None.
    """
    targets = study.settings.predict if compute is None else compute
    predictions = [predict(line, target) for target in targets for line in study.lines]
    return _predictions(study, predictions)


def losses_json(study: Study, params: float, tokens: float) -> JsonObject:
    """`scaling predict --params N --tokens D --json`: the loss of every line there."""
    return _predictions(study, [predict_loss(line, params, tokens) for line in study.lines])


def _predictions(study: Study, predictions: Sequence[Prediction]) -> JsonObject:
    document: JsonObject = finite(
        {
            "schema_version": SCHEMA_VERSION,
            "flops_convention": study.convention,
            "params_column": study.settings.params_column,
            "predictions": [_prediction(study, one) for one in predictions],
        }
    )
    return document


def comparisons_json(study: Study) -> JsonObject:
    """`scaling compare --json`: compute multipliers, differences of loss at equal compute, and serving costs.

    `lines` has one entry per compared line; `serving` the decision that `analysis.serving` asks for, or None.
    `comparisons` has one per target loss of serving, then those of `lines`,
    which have the keys of the first kind too, empty.
    """
    lines = [line_json(one) for one in study.comparisons]
    tests = study.joint.tests if isinstance(study.joint, JointComparison) else ()
    document: JsonObject = finite(
        {
            "schema_version": SCHEMA_VERSION,
            "reference": study.reference.name,
            "comparisons": [
                *(comparison_json(one) for one in serving(study).comparisons),
                *(dict(_NOT_PRICED) | one for one in lines),
            ],
            "lines": lines,
            "not_compared": study.not_compared,
            "nested_tests": [test_json(test) for test in tests],
            "kappa": kappa_json(study.ranks),
            "differences": [
                {
                    "line": d.line,
                    "against": d.reference,
                    "axis": d.verdict.axis,
                    "cost": d.verdict.cost,
                    "budget": d.budget,
                    "method": d.method,
                    "paired": d.verdict.paired,
                    "difference_nats": d.verdict.difference_nats,
                    "interval": list(d.verdict.interval),
                    "seed_noise_nats": d.verdict.sigma_seed,
                    "verdict": d.verdict.word,
                }
                for comparison in study.comparisons
                for d in (*comparison.by_budget, *comparison.other_axes)
            ],
            "rates": [_tuned(tuned) for group in tunings(study) for tuned in group],
            "matched_pairs": [_matched_pair(pair) for pair in matched_pairs(study)],
            "claims": [
                {
                    "source": claim.source,
                    "better": pair.first.line,
                    "than": pair.second.line,
                    "difference_nats": pair.difference,
                    "interval": pair.interval,
                    "matched_runs": pair.matched and pair.matched.runs,
                    "correlation": pair.matched and pair.matched.correlation,
                    "seed_noise_nats": pair.sigma,
                    "outcome": pair.outcome,
                    "claimed_difference": (claimed := claim.difference(pair.first.line, pair.second.line)),
                    "excluded": pair.excludes(claimed),
                }
                for group in tunings(study)
                for claim, pair in claimed_pairs(study, group)
            ],
            "serving": None if (made := made_decision(study)) is None else decision_json(made),
            "checks": [check.to_json() for check in by_severity(_comparison_checks(study))],
        }
    )
    return document


def _comparison_checks(study: Study) -> list[Check]:
    return [*study.comparison_checks, *serving(study).checks, *decision_checks(study)]


def _matched_pair(pair: Pair) -> JsonObject:
    """Two lines of one cell over their runs of equal seed, at the best rate of each."""
    assert pair.matched is not None
    return {
        "first": pair.first.line,
        "second": pair.second.line,
        "shape": pair.first.shape,
        "tokens": pair.first.tokens,
        "difference_nats": pair.difference,
        "interval": list(pair.matched.interval),
        "runs": pair.matched.runs,
        "correlation": pair.matched.correlation,
        "verdict": pair.word,
    }


def _tuned(tuned: Tuned) -> JsonObject:
    """One line over its rates; losses are means and norms medians over seeds."""
    rates = [
        {"lr": rate.lr, "runs": len(rate.rows), "diverged": rate.diverged, "loss_nats": rate.loss}
        | {name: rate.median(name) for name in (*NORMS, "loss_spikes")}
        for rate in tuned.rates
    ]
    best = {"best_lr": tuned.best.lr, "loss_nats": tuned.loss, "bracketed": tuned.bracketed}
    return {"line": tuned.line, "shape": tuned.shape, "tokens": tuned.tokens, **best, "rates": rates}


def finite(value: Any) -> Any:
    """`value` with every number that is not finite replaced by None, and tuples as lists."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fits(study: Study, line: Line) -> list[JsonObject]:
    named = {"family": line.family, "rank_ratio": line.rank_ratio, "line": line.name}
    dropped = sum(item.line == line.name for item in study.dropped)
    if line.law is None:
        return [named | one for one in (_refused(study, line, dropped), *_optima(study, line, dropped))]
    approaches = [3] + [2] * (line.isoflop is not None) + [1] * (line.law.envelope is not None)
    dropped += line.law.dropped
    fits = [named | line.law.to_json(approach) | {"dropped": dropped} for approach in approaches]
    fits[0]["frontier"] = _frontier(line)
    fits[0]["selection"] = [asdict(choice) for choice in line.choices]
    fits[0]["sensitivity"] = [
        {"objective": c.objective, "delta": c.delta, "exponents": c.exponents, "status": c.status}
        for c in line.law.sensitivity
    ]
    return [*fits, *(named | one for one in _optima(study, line, dropped))]


def _together(study: Study) -> list[JsonObject]:
    """The law over all lines, where one was asked for: `family` and `rank_ratio` are None."""
    if study.together is None:
        return []
    fit, draws = study.together
    document = {
        "family": None,
        "rank_ratio": None,
        "line": None,
        "law": fit.law,
        "approach": 3,
        "objective": fit.objective,
        "delta": fit.delta,
        "params_column": study.settings.params_column,
        "points": len(fit.points),
        "dropped": len(study.dropped),
        "parameters": fit.parameters,
        "intervals": parameter_intervals(draws) if draws else {},
        "exponents": fit.exponents,
        "exponent_intervals": draws.exponent_intervals() if draws else {},
        "objective_value": fit.objective_value,
        "status": fit.status,
        "message": fit.message,
        "noise": noise_parts(fit).summary.to_json() if draws else None,
        "range": {"N": list(fit.range.params), "D": list(fit.range.tokens)},
        "checks": [check.to_json() for check in fit_checks(fit, draws=draws, noise=study.noise)],
    }
    return [document]


def _refused(study: Study, line: Line, dropped: int) -> JsonObject:
    """A line whose points determine no parametric law."""
    settings = study.settings
    check = checks.NO_LAW(f"{line.refused}")
    return {
        "law": settings.line_law,
        "approach": 3,
        "objective": settings.objective,
        "delta": settings.delta,
        "params_column": settings.params_column,
        "points": len(line.points),
        "dropped": dropped,
        "parameters": {},
        "intervals": {},
        "exponents": {},
        "exponent_intervals": {},
        "objective_value": None,
        "status": "not_identified",
        "message": line.refused,
        "noise": None,
        "range": {"N": list(line.points.range.params), "D": list(line.points.range.tokens)},
        "checks": [check.to_json()],
    }


def _optima(study: Study, line: Line, dropped: int) -> list[JsonObject]:
    """Power laws through given optima, where the table is one of them."""
    if line.optima is None:
        return []
    fit: JsonObject = {
        "law": None,
        "approach": 2,
        "objective": None,
        "delta": None,
        "parameters": dict(line.optima.coefficients),
        "exponents": dict(line.optima.exponents),
        "exponent_intervals": {name: list(pair) for name, pair in line.optima.exponent_intervals.items()},
        "status": "ok",
        "message": f"power laws through {len(line.points)} given optima",
        "checks": [],
    }
    return [_refused(study, line, dropped) | fit]


def _prediction(study: Study, prediction: Prediction) -> JsonObject:
    calibration = prediction.calibration
    return {
        "family": prediction.line.family,
        "rank_ratio": prediction.line.rank_ratio,
        "line": prediction.line.name,
        "compute": prediction.compute,
        "N": prediction.params,
        "D": prediction.tokens,
        "loss": prediction.loss,
        "slope": prediction.slope,
        "refused": prediction.refused,
        "intervals": {name: list(pair) for name, pair in prediction.intervals.items()},
        "form_range": {name: list(pair) for name, pair in prediction.form_range.items()},
        "forms": [
            {"law": form.law, "weight": form.weight, "N": form.params, "D": form.tokens, "loss": form.loss}
            for form in prediction.forms
        ],
        "calibration": None if calibration is None else _calibration(calibration),
        "checks": [check.to_json() for check in prediction.checks],
    }


def _calibration(calibration: Calibration) -> JsonObject:
    return {
        "inflation": calibration.inflation,
        "inflation_of_optimum": calibration.inflation_of_optimum,
        "held_out": calibration.held_out,
        "share_inside": calibration.share_inside,
    }


def _frontier(line: Line) -> JsonObject | None:
    """The loss that the stacked forms give along the line's own budgets, and how their interval is calibrated."""
    spent = line.points.compute
    levels = line.budgets or np.geomspace(spent.min(), spent.max(), _LEVELS).tolist()
    along = stacked_frontier(line, levels)
    if not along:
        return None
    answers = [
        {"compute": one.compute, "N": one.params, "D": one.tokens, "loss": one.loss, "intervals": one.intervals}
        for one in along
    ]
    return {"along": answers, "calibration": _calibration(along[0].calibration)}
