"""Models of one line that reach a loss ℓ, chosen three ways.

On a law L(N, D), falling in both, a model of size N needs D(N, ℓ) training tokens to reach ℓ; below some N no number
of tokens is enough.

- cheapest: N minimises the training compute c(N) · D(N, ℓ); the minimum is C_f(ℓ).
- smallest: the least N that reaches ℓ with a given budget C; it is over-trained, and cheap to serve.
- lifetime: N minimises training plus serving T tokens, c(N) · D(N, ℓ) + T · s(N) (Sardana et al. 2401.00448, eq. 2,
  with c(N) and s(N) of the ladder in place of 6N and 2N).

The minimum is searched on a grid over log N that is refined about the best node. This takes no derivatives and no
starting points, so it holds for any law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.inference.curve import Curve, FloatArray

Loss = Callable[[FloatArray, FloatArray], FloatArray]
PerSize = Callable[[FloatArray], FloatArray]
Inverse = Callable[[float, FloatArray], FloatArray]
Life = tuple[FloatArray, FloatArray]  # at every size: cost of training to the loss, cost of one served token

GRID = 400
GRID_OF_DRAWS = 120
ZOOMS, ZOOM_POINTS = 3, 33  # each refines the grid 16-fold: nodes 1e-5 apart in log N, then a parabola through three
BISECTIONS = 40  # of an interval of 90 in log: to 1e-10
BELOW, ABOVE = 1e-2, 1e6  # sizes that are looked at, relative to the ladder's smallest and largest
MOST_SERVED = 1e30
LOG_TOKENS = (0.0, 90.0)  # e^90 is 1e39 tokens: a model that needs more cannot reach the loss


@dataclass(frozen=True)
class LawDraws:
    """`count` draws of a law at once: `loss` takes N and D of shape [count, m], row k for draw k.

    `inverse` gives D(N, ℓ) of ℓ and N where there is a closed form.
    """

    count: int
    loss: Loss
    inverse: Inverse | None = None

    def tokens(self, target: float, params: FloatArray) -> FloatArray:
        """D(N, ℓ); inf where no amount of training is enough."""
        return tokens_to_reach(self.loss, target, params) if self.inverse is None else self.inverse(target, params)


@dataclass(frozen=True)
class LineLaw:
    """One line of the comparison.

    `loss` takes N and D of one shape, in the law's own N, and gives nats per token; `inverse` gives D(N, ℓ) where there
    is a closed form. `flops_per_token` is training FLOPs
    per token at N; `training_flops_per_second` the measured speed of training at N, None where it has to be assumed.
    """

    name: str
    loss: Loss
    curve: Curve
    flops_per_token: PerSize
    draws: LawDraws | None = None
    training_flops_per_second: PerSize | None = None
    inverse: Inverse | None = None

    @property
    def law(self) -> LawDraws:
        """The fit, as one draw."""
        return LawDraws(1, self.loss, self.inverse)

    def sizes(self, points: int = GRID) -> FloatArray:
        """The grid over N, evenly spaced in log."""
        low, high = self.curve.rungs[0].params * BELOW, self.curve.rungs[-1].params * ABOVE
        return np.geomspace(low, high, points)


@dataclass(frozen=True)
class Trained:
    """A model that reaches the loss: size in the law's N, training tokens and FLOPs."""

    params: float
    tokens: float
    flops: float


@dataclass(frozen=True)
class TrainedDraws:
    """The same for the draws of a law that reach the loss, and how many do not."""

    params: FloatArray
    tokens: FloatArray
    flops: FloatArray
    unreached: int


def tokens_to_reach(loss: Loss, target: float, params: FloatArray) -> FloatArray:
    """D(N, ℓ) by bisection in log D; inf where no amount of training is enough. An array like `params`."""
    low, high = (np.full_like(params, end) for end in LOG_TOKENS)
    reachable = loss(params, np.exp(high)) <= target
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = loss(params, np.exp(middle)) <= target
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(reachable, np.exp(high), np.inf)


def cheapest(line: LineLaw, target: float) -> Trained | None:
    """The model that reaches `target` with the least compute, None where none does."""
    return _only(_cheapest(line, line.law, target, line.sizes()))


def cheapest_draws(line: LineLaw, target: float) -> TrainedDraws | None:
    """The same for every draw of the line's law, None where it has none."""
    return None if line.draws is None else _cheapest(line, line.draws, target, line.sizes(GRID_OF_DRAWS))


def smallest(line: LineLaw, target: float, budget: float) -> Trained | None:
    """The least N that reaches `target` with `budget` training FLOPs, None where no size does."""
    return _only(_smallest(line, line.law, target, budget, line.sizes()))


def smallest_draws(line: LineLaw, target: float, budget: float) -> TrainedDraws | None:
    """The same for every draw of the line's law, None where it has none."""
    return None if line.draws is None else _smallest(line, line.draws, target, budget, line.sizes(GRID_OF_DRAWS))


def best_loss(line: LineLaw, budget: float) -> float:
    """The least loss of the line with `budget` training FLOPs, nats per token."""

    def loss(params: FloatArray) -> FloatArray:
        return line.loss(params, budget / line.flops_per_token(params))

    return float(loss(minimise(loss, line.sizes()[None]))[0, 0])


def minimise(cost: Callable[[FloatArray], FloatArray], grid: FloatArray) -> FloatArray:
    """The size of least cost of every row of `grid` [k, m], refined between its neighbours.

    Returns [k, 1]; nan in a row without a finite cost.
    """
    rows = np.arange(len(grid))
    for _ in range(ZOOMS + 1):
        costs = cost(grid)
        at = np.argmin(costs, axis=1)
        best = np.where(np.isfinite(costs[rows, at]), grid[rows, at], np.nan)
        nodes = np.clip(at, 1, grid.shape[1] - 2)[:, None] + np.array([-1, 0, 1])
        around, values = np.take_along_axis(grid, nodes, axis=1), np.take_along_axis(costs, nodes, axis=1)
        grid = np.geomspace(around[:, 0], around[:, 2], ZOOM_POINTS, axis=1)
    vertex = _vertex(np.log(around), values)[:, None]
    return np.where(cost(vertex) <= cost(best[:, None]), vertex, best[:, None])


def _vertex(log_sizes: FloatArray, costs: FloatArray) -> FloatArray:
    """Size [k] at the bottom of a parabola through three even nodes [k, 3] of each row; nan where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slope, bend = costs[:, 2] - costs[:, 0], costs[:, 0] - 2 * costs[:, 1] + costs[:, 2]
        shift = np.where(bend > 0, -slope / (2 * bend), np.nan)
    step = (log_sizes[:, 2] - log_sizes[:, 0]) / 2
    return np.asarray(np.exp(log_sizes[:, 1] + np.clip(shift, -1.0, 1.0) * step))


def lifetime_cost(life: Life, tokens: ArrayLike) -> FloatArray:
    """Least cost of training and serving `tokens` tokens, over the sizes of a line; an array like `tokens`."""
    train, serve = life
    return np.asarray(np.min(train + np.multiply.outer(np.asarray(tokens, np.float64), serve), axis=-1))


def break_even(first: Life, second: Life) -> list[float]:
    """Served tokens at which two lines cost the same over their lives, ascending; none where one is always cheaper."""

    def first_costs_more(tokens: ArrayLike) -> NDArray[np.bool_]:
        return np.asarray(lifetime_cost(first, tokens) > lifetime_cost(second, tokens))

    log_tokens = np.linspace(0, np.log(MOST_SERVED), 600)
    more = first_costs_more(np.exp(log_tokens))
    crossings = []
    for i in np.flatnonzero(more[1:] != more[:-1]):
        low, high = log_tokens[i], log_tokens[i + 1]
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if first_costs_more(np.exp(middle)) == more[i] else (low, middle)
        crossings.append(float(np.exp(high)))
    return crossings


def _cheapest(line: LineLaw, draws: LawDraws, target: float, grid: FloatArray) -> TrainedDraws:
    def compute(params: FloatArray) -> FloatArray:
        return line.flops_per_token(params) * draws.tokens(target, params)

    best = minimise(compute, np.tile(grid, (draws.count, 1)))
    tokens = draws.tokens(target, best)
    return _reached(best, tokens, line.flops_per_token(best) * tokens)


def _smallest(line: LineLaw, draws: LawDraws, target: float, budget: float, grid: FloatArray) -> TrainedDraws:
    def loss(params: FloatArray) -> FloatArray:
        return draws.loss(params, budget / line.flops_per_token(params))

    # the sizes that reach the loss are an interval about the budget's best size, and may be narrower than the grid
    rows = np.tile(grid, (draws.count, 1))
    best = minimise(loss, rows)
    below = (rows < best) & (loss(rows) > target)
    low, high = np.log(np.where(below, rows, grid[0]).max(axis=1, keepdims=True)), np.log(best)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = loss(np.exp(middle)) <= target
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    params = np.where(loss(best) <= target, np.exp(high), np.nan)
    return _reached(params, budget / line.flops_per_token(params), np.full_like(params, budget))


def _reached(params: FloatArray, tokens: FloatArray, flops: FloatArray) -> TrainedDraws:
    reached = np.isfinite(params[:, 0])
    return TrainedDraws(params[reached, 0], tokens[reached, 0], flops[reached, 0], int((~reached).sum()))


def _only(kept: TrainedDraws) -> Trained | None:
    if kept.unreached:
        return None
    return Trained(float(kept.params[0]), float(kept.tokens[0]), float(kept.flops[0]))
