"""Which cells to add for a prediction: those that most lower its variance per FLOP spent.

Around a law with parameters theta, runs with gradients x_i of log loss and noise sigma give the parameters the
covariance M = (sum x_i x_i' / sigma^2 + prior)^-1, and the log loss at the target, with gradient g, the variance g'Mg.
One more run x lowers it by (g'Mx)^2 / (sigma^2 + x'Mx): the c-criterion of optimal design (Chaloner and Verdinelli
1995, section 2). It depends on theta, so its logarithm is averaged over draws of the current fit. Sigma is the fit's
own residual scale, scatter included; hence new cells are taken, for which it is independent, and not further seeds of
old ones.

Cells are taken greedily by gain per FLOP, each updating M for the next; because that rule alone may miss a better
choice of few expensive runs, the greedy choice by plain gain is made too, and the one that ends with less variance is
taken (Khuller, Moss and Naor 1999, on budgeted coverage). What then hardly matters is left out again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scaling.errors import PlanError
from scaling.laws.draws import Draws
from scaling.laws.points import Points
from scaling.sweeps.candidates import Candidate
from scaling.sweeps.simulate import Array, flops_per_token, points_of

_LAWS = 64  # draws averaged over; the criterion varies little between them
_PRIOR_SD = np.array([5.0, 0.5, 5.0, 0.5, 1.0])  # log a, alpha, log b, beta, E: weak, so that no draw is singular
_HARDLY = 0.02  # of the standard deviation: cells that together lower it by less are not worth a run (assumption)


@dataclass(frozen=True)
class Sharper:
    """Cells to add, and the standard deviation of log loss at the target per line without and with them."""

    cells: tuple[Candidate, ...]
    target: float
    before: Mapping[str, float]
    after: Mapping[str, float]


def sharpen(
    offered: Sequence[Candidate],
    draws: Mapping[str, Draws],
    *,
    spend: float,
    target: float,
    column: str,
    convention: str,
    taken: Sequence[Candidate] = (),
) -> Sharper:
    """The cells that most lower the variance of the loss predicted at the target, for at most `spend` FLOPs.

    Args:
        offered: cells that may be added; lines without draws and further seeds are left out.
        draws: line -> draws of the current fit, of the form `chinchilla`.
        column, convention: N and C of the study.
        taken: cells that are added in any case, out of another purse.

    Raises:
        PlanError: no new cell of a line with draws costs at most `spend`.
    """

    def of(line: str, cells: Sequence[Candidate]) -> Ensemble | None:
        own = [one for one in cells if one.line == line and one.kind == "cell"]
        if not own:
            return None
        points = points_of([one.points[0] for one in own], column, convention)
        cost, seeds = np.array([one.compute for one in own]), np.array([len(one.points) for one in own])
        return ensemble(points, draws[line], target=target, cost=cost, seeds=seeds)

    cells = {line: [one for one in offered if one.line == line and one.kind == "cell"] for line in draws}
    alone = {line: one for line, own in cells.items() if (one := of(line, own))}
    ensembles = {line: one.given(of(line, taken)) for line, one in alone.items()}
    cheapest = min((float(one.cost.min()) for one in ensembles.values()), default=math.inf)
    if cheapest > spend:
        allowed = f"{cheapest:.3g} or more" if ensembles else "a line with a law and cells to add"
        raise PlanError("no cell can be added", got=f"{spend:.3g} FLOPs to spend", allowed=allowed)
    choice = choose(list(ensembles.values()), spend)
    chosen = dict(zip(ensembles, choice, strict=True))
    return Sharper(
        cells=tuple(cells[line][place] for line, places in chosen.items() for place in places),
        target=target,
        before={line: math.sqrt(variance_left(one, [])) for line, one in alone.items()},
        after={line: math.sqrt(variance_left(one, chosen[line])) for line, one in ensembles.items()},
    )


@dataclass(frozen=True, eq=False)
class Ensemble:
    """One line's candidates under several laws (draws of its fit), linear around each law.

    Attributes:
        cost: FLOPs of each candidate [n].
        gradients: of each candidate's log loss in the five parameters [laws, n, 5], in units of its noise.
        goal: of the log loss at the target [laws, 5].
        information: of the runs there are, and of a weak prior [laws, 5, 5].
    """

    cost: Array
    gradients: Array
    goal: Array
    information: Array

    def given(self, taken: Ensemble | None) -> Ensemble:
        """The same after every candidate of `taken` has been observed."""
        if taken is None:
            return self
        more: Array = np.einsum("lnp,lnq->lpq", taken.gradients, taken.gradients)
        return replace(self, information=self.information + more)


def ensemble(
    points: Points, draws: Draws, *, target: float, cost: Array | None = None, seeds: Array | None = None
) -> Ensemble:
    """The candidates at `points` and the loss at the target, under the draws of a `chinchilla` fit.

    Args:
        cost: of every candidate [n], FLOPs; that of its point where left out.
        seeds: runs that become points of it [n]; one where left out.
    """
    there = draws.fit.points
    sigma = max(draws.fit.sigma_log, 1e-6)
    laws = {name: values[:_LAWS, None] for name, values in draws.parameters.items()}
    multiple = float(flops_per_token(there)(np.ones(1))[0])
    alpha, beta = laws["alpha"], laws["beta"]
    scale = (alpha * laws["A"] / (beta * laws["B"])) ** (1 / (alpha + beta))
    best = scale * (target / multiple) ** (beta / (alpha + beta))
    seen = _gradients(laws, there.params, there.tokens, there) / sigma
    runs = np.ones(len(points)) if seeds is None else seeds
    return Ensemble(
        cost=points.compute if cost is None else cost,
        gradients=_gradients(laws, points.params, points.tokens, there) / sigma * np.sqrt(runs)[:, None],
        # At the optimum the loss does not change with N at fixed C, so its gradient is that of the point (N, D) there.
        goal=_gradients(laws, best, target / multiple / best, there)[:, 0],
        information=np.einsum("lnp,lnq->lpq", seen, seen) + np.diag(_PRIOR_SD**-2.0),
    )


def _gradients(laws: Mapping[str, Array], params: Array, tokens: Array, centre: Points) -> Array:
    """d log loss / d (log a, alpha, log b, beta, E) [laws, n, 5], a and b the terms at the centre of the points."""
    n = np.log(params) - np.log(centre.params).mean()
    d = np.log(tokens) - np.log(centre.tokens).mean()
    model, data = laws["A"] * params ** -laws["alpha"], laws["B"] * tokens ** -laws["beta"]
    loss = laws["E"] + model + data
    parts = np.broadcast_arrays(model / loss, -n * model / loss, data / loss, -d * data / loss, 1 / loss)
    return np.stack(parts, axis=-1)


def choose(ensembles: Sequence[Ensemble], spend: float) -> list[list[int]]:
    """Places of the cells to add per line: the better of the two greedy choices, without what hardly matters."""

    def left(choice: list[list[int]]) -> float:
        return math.fsum(math.log(variance_left(one, own)) for one, own in zip(ensembles, choice, strict=True))

    best = min((greedy(ensembles, spend, rule) for rule in (gain_per_flop, plain_gain)), key=left)
    return [pruned(one, places) for one, places in zip(ensembles, best, strict=True)]


def pruned(one: Ensemble, places: Sequence[int]) -> list[int]:
    """The places without those whose absence together raises the standard deviation by at most 2 %."""
    state = _Conditioned(one)
    for place in places:
        state.observe(place)
    most = math.log(state.target_variance) + 2 * math.log1p(_HARDLY)
    while state.chosen:
        raised = state.cost_of_absence
        least = int(np.argmin(raised))
        if math.log(state.target_variance) + float(raised[least]) > most:
            break
        state.forget(least)
    return state.chosen


Rule = Callable[[Array, Array], Array]


def gain_per_flop(gain: Array, cost: Array) -> Array:
    """Log variance removed per FLOP."""
    return gain / cost


def plain_gain(gain: Array, cost: Array) -> Array:
    """Log variance removed."""
    return gain


def greedy(ensembles: Sequence[Ensemble], spend: float, rule: Rule) -> list[list[int]]:
    """Places of the chosen candidates per line: the best by `rule` that can still be paid, again and again."""
    states = [_Conditioned(one) for one in ensembles]
    left = spend
    while True:
        best = [(state.best(rule, left), n) for n, state in enumerate(states)]
        (score, place), n = max(best, key=lambda found: found[0][0])
        if score <= 0:
            return [state.chosen for state in states]
        left -= float(ensembles[n].cost[place])
        states[n].observe(place)


def variance_left(one: Ensemble, chosen: Sequence[int]) -> float:
    """Variance of the log loss at the target after observing the chosen candidates, geometric mean over laws."""
    state = _Conditioned(one)
    for place in chosen:
        state.observe(place)
    return state.target_variance


class _Conditioned:
    """Parameter covariances of one ensemble given the runs chosen; one rank-one update per run."""

    def __init__(self, one: Ensemble) -> None:
        self.one, self.chosen = one, list[int]()
        self.covariance = np.linalg.inv(one.information)

    @property
    def target_variance(self) -> float:
        """Variance of the log loss at the target: geometric mean over laws, which no degenerate draw dominates."""
        return float(np.exp(np.log(self._variances).mean()))

    @property
    def _variances(self) -> Array:
        """Of the target under every law [laws]."""
        variances: Array = np.einsum("lp,lpq,lq->l", self.one.goal, self.covariance, self.one.goal)
        return variances

    @property
    def gain(self) -> Array:
        """Log variance of the target that each candidate would remove, averaged over laws."""
        own, with_goal = self._moved(self.one.gradients)
        removed = with_goal**2 / (1 + own) / self._variances[:, None]
        gain: Array = -np.log1p(-np.minimum(removed, 1 - 1e-12)).mean(axis=0)
        return gain

    @property
    def cost_of_absence(self) -> Array:
        """Log variance of the target that the absence of each chosen candidate would add, averaged over laws."""
        own, with_goal = self._moved(self.one.gradients[:, self.chosen])
        added = with_goal**2 / np.maximum(1 - own, 1e-12) / self._variances[:, None]
        cost: Array = np.log1p(added).mean(axis=0)
        return cost

    def _moved(self, gradients: Array) -> tuple[Array, Array]:
        """x'Mx and g'Mx of gradients x [laws, n, 5], each [laws, n]."""
        moved = np.einsum("lnp,lpq->lnq", gradients, self.covariance)
        return (moved * gradients).sum(axis=-1), np.einsum("lnq,lq->ln", moved, self.one.goal)

    def best(self, rule: Rule, left: float) -> tuple[float, int]:
        """Score and place of the best candidate that can be paid and is not chosen yet; a score of 0 for none."""
        score = np.where(self.one.cost <= left, rule(self.gain, self.one.cost), 0.0)
        score[self.chosen] = 0.0
        place = int(np.argmax(score))
        return float(score[place]), place

    def observe(self, place: int) -> None:
        """Condition on candidate `place`."""
        self._update(place, 1.0)
        self.chosen.append(place)

    def forget(self, position: int) -> None:
        """Undo the observation of one of those chosen."""
        self._update(self.chosen.pop(position), -1.0)

    def _update(self, place: int, sign: float) -> None:
        gradient = self.one.gradients[:, place]
        moved = np.einsum("lpq,lq->lp", self.covariance, gradient)
        total = 1 + sign * (moved * gradient).sum(axis=1)
        self.covariance = self.covariance - sign * moved[:, :, None] * moved[:, None, :] / total[:, None, None]
