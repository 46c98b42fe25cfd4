"""The frontier of each line of a joint law, for many draws at once: loss at a cost, and the cost of a loss.

Under C = 6·N·D both are in closed form: L = E + exp(K − γ·log(C/6)). Along a line's own cost per token f(N) (exact
FLOPs, device seconds) the loss at a cost is minimised over N with D = C/f(N), and the least cost of a loss ℓ over N
with D such that the law gives ℓ; each on a grid in log N around which a parabola is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scaling.laws.fitting import Fit
from scaling.laws.frontier import FlopsPerToken
from scaling.laws.points import FLOPS_PER_PARAM_TOKEN, Array

_REACH = float(np.log(1e3))  # sizes searched beyond those of the line, each way
_COARSE, _FINE = 49, 17  # nodes over all sizes, and around the best of them
_FAR = 300.0  # in the log of a term: a degenerate draw stays a number
_NEVER = 1e9  # log cost at sizes that never reach the loss
_CHUNK = 4096  # draws whose grids are held at once


class LineTerms(NamedTuple):
    """E, log A, α, log B, β of one line, each [draws]."""

    floor: Array
    log_a: Array
    alpha: Array
    log_b: Array
    beta: Array


@dataclass(frozen=True, eq=False)
class LineFrontier:
    """One line of a joint law: its terms, and its cost per token over sizes (None: 6·N)."""

    terms: LineTerms
    cost_per_token: FlopsPerToken | None
    log_sizes: tuple[float, float]

    def loss(self, cost: float) -> Array:
        """Least loss [draws] at `cost`."""
        if self.cost_per_token is None:
            log_scale, slope = self._closed_form()
            loss: Array = self.terms.floor + np.exp(_bounded(log_scale - slope * _log_product(cost)))
            return loss
        log_cost = np.full(len(self.terms.floor), np.log(cost))
        return self._minimum(self._log_loss, log_cost, np.exp)

    def log_cost(self, loss: Array) -> Array:
        """log of the least cost [draws] at which each draw reaches its `loss` [draws]; infinite where it never does."""
        gap = loss - self.terms.floor
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.cost_per_token is None:
                log_scale, slope = self._closed_form()
                product = (log_scale - np.log(gap)) / slope + np.log(FLOPS_PER_PARAM_TOKEN)
                return np.where(gap > 0, product, np.inf)
            least = self._minimum(self._log_cost_at, loss, lambda value: value)
        return np.where(least < _NEVER / 2, least, np.inf)

    def _closed_form(self) -> tuple[Array, Array]:
        """K and γ of L = E + exp(K − γ·log(N·D)) (Hoffmann et al. 2203.15556, eq. 4)."""
        _, log_a, alpha, log_b, beta = self.terms
        balance = (np.log(alpha) + log_a - np.log(beta) - log_b) / (alpha + beta)
        return np.logaddexp(log_a - alpha * balance, log_b + beta * balance), alpha * beta / (alpha + beta)

    def _log_loss(self, log_size: Array, log_cost: Array, rows: slice) -> Array:
        floor, log_a, alpha, log_b, beta = (term[rows, None] for term in self.terms)
        log_tokens = log_cost[rows, None] - self._log_per_token(log_size)
        model, data = np.exp(_bounded(log_a - alpha * log_size)), np.exp(_bounded(log_b - beta * log_tokens))
        return np.log(floor + model + data)

    def _log_cost_at(self, log_size: Array, loss: Array, rows: slice) -> Array:
        floor, log_a, alpha, log_b, beta = (term[rows, None] for term in self.terms)
        left = loss[rows, None] - floor - np.exp(_bounded(log_a - alpha * log_size))
        log_tokens = (log_b - np.log(np.maximum(left, 1e-300))) / beta
        return np.where(left > 0, self._log_per_token(log_size) + log_tokens, _NEVER)

    def _log_per_token(self, log_size: Array) -> Array:
        assert self.cost_per_token is not None
        log_cost: Array = np.log(self.cost_per_token(np.exp(log_size.ravel())))
        return log_cost.reshape(log_size.shape)

    def _minimum(
        self, value: Callable[[Array, Array, slice], Array], given: Array, finish: Callable[[Array], Array]
    ) -> Array:
        """Least `value(log N, given, rows)` of every draw [draws]."""
        coarse = np.linspace(*self.log_sizes, _COARSE)[None]
        step = coarse[0, 1] - coarse[0, 0]
        offsets = np.linspace(-1.0, 1.0, _FINE) * step
        pieces = []
        for i in range(0, len(given), _CHUNK):
            rows = slice(i, i + _CHUNK)
            best = coarse[0, value(coarse, given, rows).argmin(axis=1)]
            fine = np.clip(best[:, None] + offsets, *self.log_sizes)
            pieces.append(finish(_vertex(value(fine, given, rows))))
        return np.concatenate(pieces)


def line_frontier(
    fit: Fit, line: str, vectors: Array | None = None, cost_per_token: FlopsPerToken | None = None
) -> LineFrontier:
    """The frontier of one line of a joint law (or of a law that all lines share).

    Args:
        fit: a law with one model term and one data term.
        line: its name.
        vectors: draws [draws, P]; None is the fit itself, as one draw.
        cost_per_token: cost of one training token at sizes N [m]; None counts 6·N FLOPs.
    """
    own = fit.points.params if fit.points.line is None else fit.points.params[fit.points.line == line]
    sizes = float(np.log(own.min())) - _REACH, float(np.log(own.max())) + _REACH
    return LineFrontier(line_terms(fit, line, fit.vector[None] if vectors is None else vectors), cost_per_token, sizes)


def line_terms(fit: Fit, line: str, vectors: Array) -> LineTerms:
    """E, log A, α, log B and β of one line from internal vectors [draws, P]."""
    layout = fit.layout

    def own(name: str) -> Array:
        return vectors[:, layout.index(f"{name}[{line}]" if name in layout.form.free else name)]

    floor = own("E") * layout.loss_scale if layout.form.floor else np.zeros(len(vectors))
    alpha, beta = own("alpha"), own("beta")
    return LineTerms(floor, own("A") + layout.centres[0] * alpha, alpha, own("B") + layout.centres[1] * beta, beta)


def _bounded(log_term: Array) -> Array:
    bounded: Array = np.clip(log_term, -_FAR, _FAR)
    return bounded


def _log_product(cost: float) -> float:
    return float(np.log(cost / FLOPS_PER_PARAM_TOKEN))


def _vertex(values: Array) -> Array:
    """Minimum of each row, at the bottom of a parabola through the three nodes around the lowest."""
    best = np.clip(values.argmin(axis=1), 1, values.shape[1] - 2)
    rows = np.arange(len(values))
    left, middle, right = (values[rows, best + k] for k in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    usable = (bend > 0) & (left < _NEVER) & (right < _NEVER)
    drop = np.where(usable, (left - right) ** 2 / (8.0 * np.where(usable, bend, 1.0)), 0.0)
    lowest: Array = np.minimum(np.where(usable, middle - drop, np.inf), values.min(axis=1))
    return lowest
