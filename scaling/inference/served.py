"""One line, in one form, in one setting: its prices as functions of N, and its lifetime.

Device seconds of training take the measured speed where the line has one, else the device's assumed share of its
peak; the row says which in `training_speed`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scaling.inference import equal_loss
from scaling.inference.cost import Form, Setting, cost
from scaling.inference.curve import FloatArray
from scaling.inference.equal_loss import Life, LineLaw, Trained

AXES = ("flops", "device_seconds")
LIFE_GRID = 1600
PRICES = (
    "params", "weight_bytes", "kv_bytes_per_token", "kv_bytes", "step_bytes", "decode_flops_per_token",
    "prefill_flops_per_token", "decode_seconds", "prefill_seconds", "kernels",
)  # fmt: skip
NEAREST = ("params", "weight_bytes", "kv_bytes_per_token", "decode_flops_per_token", "decode_seconds")


class Served:
    """See the module."""

    def __init__(self, line: LineLaw, form: Form, setting: Setting) -> None:
        self.line, self.form, self.setting = line, form, setting
        self._rungs = [cost(rung.shape, rung.ranks, setting, form) for rung in line.curve.rungs]
        self._prices = {name: line.curve.through([row[name] for row in self._rungs]) for name in PRICES}
        self._width = line.curve.quantity(lambda shape, _: shape.width)

    def price(self, name: str, params: FloatArray) -> FloatArray:
        """One of `PRICES` at sizes N."""
        return self._prices[name](params)

    def row(self, trained: Trained | None) -> dict[str, Any]:
        """The model, its prices along the ladder, and those of the nearest real shape; all None without a model."""
        setting = self.setting
        row: dict[str, Any] = {
            "form": self.form, "device": setting.device.name, "precision": setting.values, "batch": setting.batch,
            "context": setting.context, "calibrated": setting.device.kernel_seconds is not None,
            "training_speed": "assumed" if self.line.training_flops_per_second is None else "measured",
        }  # fmt: skip
        row |= dict.fromkeys(("N", "D", "C", *PRICES, "kv_share", "decode_tokens_per_second", "fits", "extrapolated"))
        row |= dict.fromkeys(("nearest_shape", "nearest_N", *(f"nearest_{name}" for name in NEAREST)))
        return row if trained is None else row | self._priced(trained)

    def _priced(self, trained: Trained) -> dict[str, Any]:
        curve = self.line.curve
        prices = {name: float(self.price(name, np.array([trained.params]))[0]) for name in PRICES}
        nearest = curve.nearest(trained.params)
        real = self._rungs[curve.rungs.index(nearest)]
        return {
            "N": trained.params,
            "D": trained.tokens,
            "C": trained.flops,
            **prices,
            "kv_share": prices["kv_bytes"] / prices["step_bytes"],
            "decode_tokens_per_second": self.setting.batch / prices["decode_seconds"],
            "fits": prices["weight_bytes"] + prices["kv_bytes"] <= self.setting.device.memory_bytes,
            "extrapolated": curve.extrapolated(trained.params),
            "nearest_shape": nearest.name,
            "nearest_N": nearest.params,
            **{f"nearest_{name}": real[name] for name in NEAREST},
        }

    def life(self, target: float, axis: str) -> Life:
        """At every size: the cost of training to `target`, and of serving one token, in FLOPs or device seconds."""
        sizes = self.line.sizes(LIFE_GRID)
        return self._training(sizes, target, axis), self._serving(sizes, axis)

    def lifetime(self, target: float, served_tokens: float, axis: str) -> tuple[Trained, float]:
        """The model for which training to `target` and serving so many tokens is cheapest; that cost, in `axis`."""

        def total(sizes: FloatArray) -> FloatArray:
            return self._training(sizes, target, axis) + served_tokens * self._serving(sizes, axis)

        best = equal_loss.minimise(total, self.line.sizes()[None])[0]
        tokens = equal_loss.tokens_to_reach(self.line.loss, target, best)
        flops = self.line.flops_per_token(best) * tokens
        return Trained(float(best[0]), float(tokens[0]), float(flops[0])), float(total(best)[0])

    def _training(self, sizes: FloatArray, target: float, axis: str) -> FloatArray:
        tokens = equal_loss.tokens_to_reach(self.line.loss, target, sizes)
        flops = self.line.flops_per_token(sizes) * tokens
        return flops if axis == "flops" else flops / self._training_flops_per_second(sizes)

    def _serving(self, sizes: FloatArray, axis: str) -> FloatArray:
        if axis == "flops":
            return self.price("decode_flops_per_token", sizes)
        return self.price("decode_seconds", sizes) / self.setting.batch

    def _training_flops_per_second(self, sizes: FloatArray) -> FloatArray:
        if self.line.training_flops_per_second is not None:
            return self.line.training_flops_per_second(sizes)
        device = self.setting.device
        share = np.vectorize(device.mfu, otypes=[float])(np.rint(np.maximum(self._width(sizes), 1.0)))
        return np.asarray(share * device.peak(self.setting.values))
