"""Models of one line that reach a loss ℓ, chosen three ways.

On a law L(N, D), falling in both, D(N, ℓ) is the training a model of size N needs to reach ℓ; below some N none is
enough.

- cheapest: N minimises the training compute c(N) · D(N, ℓ); the minimum is C_f(ℓ). - smallest: the least N that
reaches ℓ with a given budget C; it is over-trained, and cheap to serve. - lifetime: N minimises training plus serving
T tokens, c(N) · D(N, ℓ) + T · s(N) (Sardana et al. 2401.00448, eq. 2, with c(N) and
  s(N) of the ladder in place of 6N and 2N).

Everything is done on a grid over log N, with the grid refined about the minimum: no derivatives, no starting points,
any law.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.inference.curve import Curve, FloatArray

Loss = Callable[[FloatArray, FloatArray], FloatArray]
PerSize = Callable[[FloatArray], FloatArray]
Life = tuple[FloatArray, FloatArray]  # at every size: cost of training to the loss, cost of one served token

GRID = 400
ZOOMS, ZOOM_POINTS = 2, 33  # each refines the grid 16-fold: N to 3e-4, and at a minimum its cost to 1e-7
BISECTIONS = 40  # of an interval of 90 in log: to 1e-10
BELOW, ABOVE = 1e-2, 1e6  # sizes that are looked at, relative to the ladder's smallest and largest
MOST_SERVED = 1e30
LOG_TOKENS = (0.0, 90.0)  # e^90 is 1e39 tokens: a model that needs more cannot reach the loss


@dataclass(frozen=True)
class Line:
    """One line of the comparison.

    `loss` takes N [m] and D [m], in the law's own N, and gives nats per token [m]; `draws` are the same function for
    draws of the law's parameters. `flops_per_token` is training FLOPs per token at N; `training_flops_per_second` the
    measured speed of training at N, None where it has to be assumed.
    """

    name: str
    loss: Loss
    curve: Curve
    flops_per_token: PerSize
    draws: Sequence[Loss] = ()
    training_flops_per_second: PerSize | None = None

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


def tokens_to_reach(loss: Loss, target: float, params: FloatArray) -> FloatArray:
    """D(N, ℓ) by bisection in log D; inf where no amount of training is enough."""
    low, high = (np.full_like(params, end) for end in LOG_TOKENS)
    reachable = loss(params, np.exp(high)) <= target
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = loss(params, np.exp(middle)) <= target
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(reachable, np.exp(high), np.inf)


def cheapest(line: Line, target: float, *, loss: Loss | None = None) -> Trained | None:
    """The model that reaches `target` with the least compute, None where none does. `loss` may be a draw of the law."""
    reach = loss or line.loss

    def compute(params: FloatArray) -> FloatArray:
        return line.flops_per_token(params) * tokens_to_reach(reach, target, params)

    best = minimise(compute, line.sizes())
    return None if best is None else trained(line, reach, target, best)


def best_loss(line: Line, budget: float) -> float:
    """The least loss of the line with `budget` training FLOPs, nats per token."""
    at = minimise(lambda n: line.loss(n, budget / line.flops_per_token(n)), line.sizes())
    assert at is not None
    size = np.array([at])
    return float(line.loss(size, budget / line.flops_per_token(size))[0])


def smallest(line: Line, target: float, budget: float, *, loss: Loss | None = None) -> Trained | None:
    """The least N that reaches `target` with `budget` training FLOPs, None where no size does."""
    reach = loss or line.loss

    def reaches(params: FloatArray) -> NDArray[np.bool_]:
        return np.asarray(reach(params, budget / line.flops_per_token(params)) <= target)

    # the sizes that reach the loss are an interval about the budget's best size, and may be narrower than the grid
    grid = line.sizes()
    best = minimise(lambda n: reach(n, budget / line.flops_per_token(n)), grid)
    if best is None or not reaches(np.array([best]))[0]:
        return None
    below = grid[(grid < best) & ~reaches(grid)]
    low, high = np.log(below[-1] if len(below) else grid[0]), np.log(best)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(np.exp([middle]))[0] else (middle, high)
    params = float(np.exp(high))
    return Trained(params, float(budget / line.flops_per_token(np.array([params]))[0]), budget)


def minimise(cost: Callable[[FloatArray], FloatArray], grid: FloatArray) -> float | None:
    """The argument of the least finite cost on `grid`, refined between its neighbours; None where no cost is finite."""
    for _ in range(ZOOMS + 1):
        costs = cost(grid)
        at = int(np.argmin(costs))
        if not np.isfinite(costs[at]):
            return None
        best = float(grid[at])
        grid = np.geomspace(grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)], ZOOM_POINTS)
    return best


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


def trained(line: Line, loss: Loss, target: float, params: float) -> Trained:
    """The model of size N trained until it reaches the loss."""
    size = np.array([params])
    tokens = float(tokens_to_reach(loss, target, size)[0])
    return Trained(params, tokens, float(line.flops_per_token(size)[0]) * tokens)
