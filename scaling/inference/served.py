"""One line, in one form, in one setting: its prices as functions of N, and its lifetime.

Device seconds of training take the measured speed where the line has one, else the device's assumed share of its
peak; the row says which in `training_speed`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from scaling.inference import equal_loss
from scaling.inference.cost import Form, ServingCost, Setting, cost
from scaling.inference.curve import FloatArray, LadderModel
from scaling.inference.equal_loss import Life, LineLaw, Trained

LifetimeAxis = Literal["flops", "device_seconds"]
LIFETIME_AXES: tuple[LifetimeAxis, ...] = ("flops", "device_seconds")
LIFE_GRID = 1600


@dataclass(frozen=True)
class Prices:
    """The prices of `ServingCost` at a continuous N, along the ladder; no seconds below `TIMED_FROM` parameters."""

    params: float
    weight_bytes: float
    kv_bytes_per_token: float
    kv_bytes: float
    step_bytes: float
    decode_flops_per_token: float
    prefill_flops_per_token: float
    decode_seconds: float | None
    decode_seconds_low: float | None
    decode_seconds_high: float | None
    prefill_seconds: float | None
    prefill_seconds_low: float | None
    prefill_seconds_high: float | None
    kernels: float


PRICES = tuple(field.name for field in fields(Prices))
TIMED_FROM = 1e7  # parameters: below, a decode step is launches and no arithmetic, and seconds say nothing of a model


@dataclass(frozen=True)
class ServedModel:
    """A model of continuous size with its prices, and the nearest real model of the ladder with its own.

    Args:
        trained: size in the law's N, training tokens and FLOPs.
        prices: along the ladder.
        kv_share: of the bytes that a decode step moves.
        decode_tokens_per_second: of all sequences together; None below `TIMED_FROM` parameters.
        fits: whether weights and cache are within the device's memory.
        extrapolated: whether N is outside the ladder.
        nearest, nearest_cost: the real model whose N is nearest in log, and its price.
    """

    trained: Trained
    prices: Prices
    kv_share: float
    decode_tokens_per_second: float | None
    fits: bool
    extrapolated: bool
    nearest: LadderModel
    nearest_cost: ServingCost


class ServedLine:
    """Prices of one line, in one form and one setting, as functions of N."""

    def __init__(self, line: LineLaw, form: Form, setting: Setting) -> None:
        self.line, self.form, self.setting = line, form, setting
        longer = line.curve.longer(equal_loss.ABOVE)
        costs = [cost(rung.shape, rung.ranks, setting, form) for rung in longer.rungs]
        self._prices = {name: longer.through([getattr(one, name) for one in costs]) for name in PRICES}
        self._rungs = costs[: len(line.curve.rungs)]
        self._width = line.curve.quantity(lambda shape, _: shape.width)

    @property
    def training_speed(self) -> Literal["assumed", "measured"]:
        """Where device seconds of training come from."""
        return "assumed" if self.line.training_flops_per_second is None else "measured"

    def price(self, name: str, params: FloatArray) -> FloatArray:
        """One of `PRICES` at sizes N."""
        return self._prices[name](params)

    def price_at(self, name: str, params: float) -> float:
        """One of `PRICES` at one size."""
        return float(self.price(name, np.array([params]))[0])

    def timed(self, params: float) -> bool:
        """Whether a model of N has the parameters from which its seconds are of arithmetic and bytes."""
        return self.price_at("params", params) >= TIMED_FROM

    def _timed_price(self, name: str, params: float) -> Any:
        return None if "seconds" in name and not self.timed(params) else self.price_at(name, params)

    def model(self, trained: Trained) -> ServedModel:
        """What a model of this line costs to serve."""
        curve = self.line.curve
        prices = Prices(**{name: self._timed_price(name, trained.params) for name in PRICES})
        nearest = curve.nearest(trained.params)
        return ServedModel(
            trained,
            prices,
            kv_share=prices.kv_bytes / prices.step_bytes,
            decode_tokens_per_second=prices.decode_seconds and self.setting.batch / prices.decode_seconds,
            fits=prices.weight_bytes + prices.kv_bytes <= self.setting.device.memory_bytes,
            extrapolated=curve.extrapolated(trained.params),
            nearest=nearest,
            nearest_cost=self._rungs[curve.rungs.index(nearest)],
        )

    def life(self, target: float, axis: LifetimeAxis) -> Life:
        """At every size: the cost of training to `target`, and of serving one token, in FLOPs or device seconds."""
        sizes = self.line.sizes(LIFE_GRID)
        return self._training(sizes, target, axis), self._serving(sizes, axis)

    def lifetime(self, target: float, served_tokens: float, axis: LifetimeAxis) -> tuple[Trained, float]:
        """The model for which training to `target` and serving so many tokens is cheapest; that cost, in `axis`."""

        def total(sizes: FloatArray) -> FloatArray:
            return self._training(sizes, target, axis) + served_tokens * self._serving(sizes, axis)

        best = equal_loss.minimise(total, self.line.sizes()[None])[0]
        tokens = self.line.law.tokens(target, best)
        flops = self.line.flops_per_token(best) * tokens
        return Trained(float(best[0]), float(tokens[0]), float(flops[0])), float(total(best)[0])

    def _training(self, sizes: FloatArray, target: float, axis: LifetimeAxis) -> FloatArray:
        tokens = self.line.law.tokens(target, sizes)
        flops = self.line.flops_per_token(sizes) * tokens
        return flops if axis == "flops" else flops / self.training_flops_per_second(sizes)

    def _serving(self, sizes: FloatArray, axis: LifetimeAxis) -> FloatArray:
        if axis == "flops":
            return self.price("decode_flops_per_token", sizes)
        return self.price("decode_seconds", sizes) / self.setting.batch

    def training_flops_per_second(self, sizes: FloatArray) -> FloatArray:
        """FLOP/s of training a model of N, as measured, or the device's assumed share of its peak at that width."""
        if self.line.training_flops_per_second is not None:
            return self.line.training_flops_per_second(sizes)
        device, ranks = self.setting.device, self.line.curve.rungs[0].ranks
        widths = sorted(device.mfu_by_width) or [1]
        shares = [device.mfu(width, low_rank=ranks is not None) for width in widths]
        share = np.exp(np.interp(np.log(self._width(sizes)), np.log(widths), np.log(shares)))
        return np.asarray(share * device.peak(self.setting.arithmetic))
