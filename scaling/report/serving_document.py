"""The JSON of serving costs: the decision, rows at equal loss, break-even points, and times measured here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from scaling.analysis.serving_decision import StudyDecision
from scaling.files import JsonObject
from scaling.inference.decision import Row
from scaling.inference.served import PRICES, TIMED_FROM, ServedModel
from scaling.inference.serving_comparison import RATIOS, ServingComparison, ServingRow

if TYPE_CHECKING:
    from scaling.inference.measure import MeasuredCost

_OF_MODEL = ("N", "D", "C", *PRICES, "kv_share", "decode_tokens_per_second", "fits", "extrapolated")
_OF_MODEL += ("nearest_shape", "nearest_N", *(f"nearest_{name}" for name in RATIOS))
_SIZES = {"params": "N", "tokens": "D", "flops": "C"}  # our field -> the document's key


def comparison_json(comparison: ServingComparison) -> JsonObject:
    """One target loss: ``target_loss``, ``rows``, ``break_even``, ``checks``; what is unknown is None."""
    return {
        "target_loss": comparison.target_loss,
        "rows": [_row(row) for row in comparison.rows],
        "break_even": [asdict(point) | {"served_tokens": list(point.served_tokens)} for point in comparison.break_even],
        "checks": [check.to_json() for check in comparison.checks],
    }


def decision_json(made: StudyDecision) -> JsonObject:
    """What `--served` asks: the decision in words, a row for every line, form and choice, and what follows from them.

    Costs are in `unit` (`usd`, `device_seconds`, `flops`) over all served tokens; ratios are to the reference of the
    same choice.
    """
    from scaling.report.decision_tables import decision_sentences

    found, setting = made.decision, made.setting
    return {
        "decision": decision_sentences(made)[0],
        "device": setting and setting.device.name,
        "batch": setting and setting.batch,
        "context": setting and setting.context,
        "prompt": setting and setting.prompt,
        "precision": setting and setting.values,
        "served_tokens": found.served_tokens,
        "target_loss": found.target_loss,
        "usd_per_hour": made.question.usd_per_hour,
        "rows": [_decided(made, row) for row in found.rows],
        "break_even": [
            {
                "line": point.line,
                "form": point.form,
                "against": point.against,
                "served_tokens": point.served_tokens,
                "interval": list(point.interval),
                "cheaper_below": point.cheaper_below,
            }
            for point in found.break_even
        ],
        "ranks": [asdict(one) for one in found.ranks],
        "over_training": [asdict(one) for one in found.over_training],
        "checks": [check.to_json() for check in made.checks],
    }


def _decided(made: StudyDecision, row: Row) -> JsonObject:
    between = made.total_range(row)
    return {
        "line": row.line,
        "rank_ratio": row.rank_ratio,
        "form": row.form,
        "choice": row.choice,
        "N": row.params,
        "D": row.tokens,
        "loss": row.loss,
        "train_cost": row.train_cost,
        "serve_cost": row.serve_cost,
        "total_cost": row.total_cost,
        "total_cost_range": between and list(between),
        "unit": made.unit,
        "ratio": row.ratio,
        "ratio_interval": row.ratio_interval and list(row.ratio_interval),
        "same": row.same,
        "verdict": row.word,
        "serve_ratio": row.serve_ratio,
        "serve_ratio_interval": row.serve_ratio_interval and list(row.serve_ratio_interval),
    }


def measured_json(line: str, measured: MeasuredCost) -> JsonObject:
    """The predicted price of a line's model and, as ``measured_*``, what this machine needs."""
    return {
        "line": line,
        **asdict(measured.predicted),
        "measured_decode_seconds": measured.decode_seconds,
        "measured_prefill_seconds": measured.prefill_seconds,
        "measured_tokens_per_second": measured.tokens_per_second,
        "measured_on": measured.measured_on,
    }


def _row(row: ServingRow) -> JsonObject:
    setting, choice = row.setting, row.choice
    return {
        "line": row.line,
        "choice": choice.kind,
        "budget_multiple": choice.budget_multiple,
        "served_tokens": choice.served_tokens,
        "axis": choice.axis,
        "lifetime_cost": row.lifetime_cost,
        "form": row.form,
        "device": setting.device.name,
        "precision": setting.values,
        "batch": setting.batch,
        "context": setting.context,
        "calibrated": setting.calibrated,
        "training_speed": row.training_speed,
        **(dict.fromkeys(_OF_MODEL) if row.model is None else _model(row.model)),
        "intervals": row.intervals and {_SIZES.get(k, k): v and list(v) for k, v in asdict(row.intervals).items()},
        **{f"{name}_ratio": value for name, value in asdict(row.ratios).items()},
    }


def _model(model: ServedModel) -> JsonObject:
    return {
        "N": model.trained.params,
        "D": model.trained.tokens,
        "C": model.trained.flops,
        **asdict(model.prices),
        "kv_share": model.kv_share,
        "decode_tokens_per_second": model.decode_tokens_per_second,
        "fits": model.fits,
        "extrapolated": model.extrapolated,
        "nearest_shape": model.nearest.name,
        "nearest_N": model.nearest.params,
        **{f"nearest_{name}": getattr(model.nearest_cost, name) for name in RATIOS},
        **({} if model.nearest_cost.params >= TIMED_FROM else {"nearest_decode_seconds": None}),
    }
