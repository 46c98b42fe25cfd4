"""A ladder as a curve: the quantities of its shapes as functions of a continuous N.

A law speaks of N; a price needs depth, width and rank. Between two shapes of the ladder (at one rank ratio) every
positive quantity is taken to be a power of N, that is, interpolated in log–log. Beyond the ends it goes on with the
power fitted to the whole ladder, and the row says that it is extrapolated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.run import Shape
from scaling.sweeps.counting import Ranks, count, forward_flops_per_token

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Rung:
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
        self.rungs = tuple(Rung(shape, ranks, float(n)) for n, (shape, ranks) in sorted(by_size.items()))
        self._log_sizes = np.log([rung.params for rung in self.rungs])

    @property
    def factorized(self) -> bool:
        """Whether the models of the line have factors."""
        return self.rungs[0].ranks is not None

    def __call__(self, quantity: Callable[[Shape, Ranks], float], params: ArrayLike) -> FloatArray:
        """A positive quantity of a model at sizes N, an array like `params`."""
        return self.interpolated([quantity(rung.shape, rung.ranks) for rung in self.rungs], params)

    def interpolated(self, values: Sequence[float], params: ArrayLike) -> FloatArray:
        """The same from the quantity's value at each rung."""
        logs = np.log(np.asarray(values, np.float64))
        log_n = np.log(np.asarray(params, np.float64))
        inside = np.interp(log_n, self._log_sizes, logs)
        outside = log_n - np.clip(log_n, self._log_sizes[0], self._log_sizes[-1])
        return np.asarray(np.exp(inside + self._power(logs) * outside), np.float64)

    def training_flops_per_token(self, params: ArrayLike, *, sequence_length: int, convention: str) -> FloatArray:
        """Training FLOPs per token at sizes N: three forwards (``exact``), or 6 · params_total (``6ND``)."""
        if convention == "6ND":
            return self(lambda shape, ranks: 6.0 * count(shape, ranks).params_total, params)
        assert convention == "exact", convention
        return self(lambda shape, ranks: 3 * forward_flops_per_token(shape, ranks, sequence_length), params)

    def nearest(self, params: float) -> Rung:
        """The real model whose N is nearest in log."""
        return self.rungs[int(np.argmin(abs(self._log_sizes - np.log(params))))]

    def extrapolated(self, params: float) -> bool:
        """Whether N is outside the ladder by more than rounding."""
        return not self.rungs[0].params * (1 - 1e-9) <= params <= self.rungs[-1].params * (1 + 1e-9)

    def _power(self, logs: FloatArray) -> float:
        """Exponent of the quantity over the whole ladder by least squares; 1 where there is one shape."""
        if len(self.rungs) == 1:
            return 1.0
        x = self._log_sizes - self._log_sizes.mean()
        return float(x @ logs / (x @ x))
