"""The JSON of serving costs: rows at equal loss, break-even points, and times measured on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from scaling.files import JsonObject
from scaling.inference.served import PRICES, ServedModel
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
        "intervals": row.intervals and {_SIZES.get(k, k): list(v) for k, v in asdict(row.intervals).items()},
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
    }
