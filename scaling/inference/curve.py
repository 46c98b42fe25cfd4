"""A ladder as a curve: the quantities of its shapes as functions of a continuous N.

A law is a function of N; a price needs a shape and ranks. Between two shapes of the ladder (at one rank ratio) every
positive quantity is taken to be a power of N, that is, interpolated in log–log. Beyond the ends the power fitted to
the whole ladder is used, and the row says that it is extrapolated. Where a quantity is no power of N (times, which are
of launches in a small model and of bytes in a large one) it is taken along `longer` ladders, whose further shapes are
made in the proportions of the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.parameterizations import Ranks
from scaling.run import Shape
from scaling.sweeps.counting import count, forward_flops_per_token

FloatArray = NDArray[np.float64]
_WIDTH_STEP = 1.5  # from one further shape to the next


@dataclass(frozen=True)
class LadderModel:
    """One real model of the ladder."""

    shape: Shape
    ranks: Ranks
    params: float

    @property
    def name(self) -> str:
        """Depth, width, heads and feed-forward width, for tables."""
        s = self.shape
        return f"d{s.width} L{s.layers} h{s.heads} ff{s.ff_width}"


class Curve:
    """The models of one line, by size.

    Args:
        models: (shape, ranks) of each rung, in any order; of two with equal N the first is kept.
        params: the N the law was fitted to: params_total, params_non_embedding or params_matmul.
    """

    def __init__(self, models: Sequence[tuple[Shape, Ranks]], *, params: str) -> None:
        assert models
        self.params = params
        by_size = {count(shape, ranks).column(params): (shape, ranks) for shape, ranks in reversed(models)}
        self.rungs = tuple(LadderModel(shape, ranks, float(n)) for n, (shape, ranks) in sorted(by_size.items()))
        self._log_sizes = np.log([rung.params for rung in self.rungs])
        self._training = cache(self._training_quantity)
        self.longer = cache(self._longer)

    def _longer(self, reach: float) -> Curve:
        """The ladder continued to `reach` times its largest N: its depth grows as along the ladder, its other
        proportions and the share of each rank stay.
        """
        models = [(rung.shape, rung.ranks) for rung in self.rungs]
        return Curve([*models, *self._further(reach * self.rungs[-1].params)], params=self.params)

    def _further(self, largest: float) -> Iterator[tuple[Shape, Ranks]]:
        last, widths = self.rungs[-1], np.log([rung.shape.width for rung in self.rungs])
        depth = 0.0 if np.ptp(widths) == 0 else np.polyfit(widths, np.log([r.shape.layers for r in self.rungs]), 1)[0]
        shape, ranks, scale, step = last.shape, last.ranks, 1.0, 2 * last.shape.heads
        while count(shape, ranks).column(self.params) < largest:
            scale *= _WIDTH_STEP
            width = max(1, round(scale * last.shape.width / step)) * step
            true = width / last.shape.width
            layers = max(1, round(last.shape.layers * true ** np.clip(depth, 0.0, 1.0)))
            shape = replace(last.shape, layers=layers, width=width, ff_width=round(last.shape.ff_width * true))
            ranks = None if last.ranks is None else {k: max(1, round(r * true)) for k, r in last.ranks.items()}
            yield shape, ranks

    def quantity(self, of: Callable[[Shape, Ranks], float]) -> Callable[[ArrayLike], FloatArray]:
        """A positive quantity of a model as a function of sizes N."""
        return self.through([of(rung.shape, rung.ranks) for rung in self.rungs])

    def through(self, values: Sequence[float]) -> Callable[[ArrayLike], FloatArray]:
        """The function of sizes N that has these positive values at the rungs."""
        logs = np.log(np.asarray(values, np.float64))
        return partial(_interpolated, self._log_sizes, logs, _power(self._log_sizes, logs))

    def training_flops_per_token(self, params: ArrayLike, *, sequence_length: int, convention: str) -> FloatArray:
        """Training FLOPs per token at sizes N: three forwards (``exact``), or 6 · params_total (``6ND``)."""
        return self._training(sequence_length, convention)(params)

    def nearest(self, params: float) -> LadderModel:
        """The real model whose N is nearest in log."""
        return self.rungs[int(np.argmin(abs(self._log_sizes - np.log(params))))]

    def extrapolated(self, params: float) -> bool:
        """Whether N is outside the ladder by more than rounding."""
        return not self.rungs[0].params * (1 - 1e-9) <= params <= self.rungs[-1].params * (1 + 1e-9)

    def _training_quantity(self, sequence_length: int, convention: str) -> Callable[[ArrayLike], FloatArray]:
        if convention == "6ND":
            return self.quantity(lambda shape, ranks: 6.0 * count(shape, ranks).params_total)
        assert convention == "exact", convention
        return self.quantity(lambda shape, ranks: 3 * forward_flops_per_token(shape, ranks, sequence_length))


def _interpolated(log_sizes: FloatArray, logs: FloatArray, power: float, params: ArrayLike) -> FloatArray:
    log_n = np.log(np.asarray(params, np.float64))
    outside = log_n - np.clip(log_n, log_sizes[0], log_sizes[-1])
    return np.asarray(np.exp(np.interp(log_n, log_sizes, logs) + power * outside), np.float64)


def _power(log_sizes: FloatArray, logs: FloatArray) -> float:
    """Exponent of the quantity over the whole ladder by least squares; 1 where there is one shape."""
    if len(log_sizes) == 1:
        return 1.0
    x = log_sizes - log_sizes.mean()
    return float(x @ logs / (x @ x))
