"""Which runs to add: those that most lower the variance of a prediction per FLOP spent.

Around a law with parameters theta, runs with gradients x_i of log loss and noise sigma give the parameters the
covariance M = (sum x_i x_i' / sigma^2 + prior)^-1, and the log loss at the target, with gradient g, the variance g'Mg.
One more run x lowers it by (g'Mx)^2 / (sigma^2 + x'Mx): the c-criterion of optimal design (Chaloner and Verdinelli
1995, section 2). It depends on theta, so it is averaged over draws of the current fit.

Runs are taken greedily by gain per FLOP, each updating M for the next; because that rule alone may miss a better choice
of few expensive runs, the greedy choice by plain gain is made too, and the one that ends with less variance is proposed
(Khuller, Moss and Naor 1999, on budgeted coverage).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import yaml

from scaling.errors import PlanError
from scaling.files import JsonObject
from scaling.laws.draws import Draws
from scaling.laws.points import Points
from scaling.spec import YamlDocument
from scaling.sweeps.grids import Plan, plan
from scaling.sweeps.resolve import PlannedRun
from scaling.sweeps.schema import Sweep, read_sweep
from scaling.sweeps.simulate import Array, flops_per_token, points_of

_LAWS = 64  # draws averaged over; the criterion varies little between them
_PRIOR_SD = np.array([5.0, 0.5, 5.0, 0.5, 1.0])  # log a, alpha, log b, beta, E: weak, so that no draw is singular
_LEVELS = 24  # budgets tried per shape; 17 shapes of `tiny` and three lines make about 1,200 candidates
_CHEAPEST = 1 / 300  # of the spend: below it a run is shorter than its own warm-up


def candidates(sweep: Sweep, *, vocab_size: int, spend: float) -> Plan:
    """Every run that may be added to a sweep: its ladder × evenly spaced budgets up to the spend, for every line.

    Raises:
        PlanError: the sweep lists its shapes point by point and has no ladder, or nothing can be run.
    """
    if sweep.grid.ladder is None:
        raise PlanError("no ladder to take shapes from", where=sweep.where("grid"), hint="name a `ladder` in the grid")
    budgets = [spend * _CHEAPEST ** (1 - n / (_LEVELS - 1)) for n in range(_LEVELS)]
    points = [{"shape": rung.name, "budget": budget} for budget in budgets for rung in sweep.grid.ladder]
    return plan(_with_points(sweep, points), vocab_size=vocab_size)


@dataclass(frozen=True)
class Proposal:
    """Runs to add, in the order they were chosen, and the standard deviation of log loss at the target per line."""

    runs: tuple[PlannedRun, ...]
    spent: float
    target: float
    before: Mapping[str, float]
    after: Mapping[str, float]


def propose(
    candidates: Plan, draws: Mapping[str, Draws], *, spend: float, target: float, noise: float | None = None
) -> Proposal:
    """The candidates that most lower the variance of the loss predicted at the target, for at most `spend` FLOPs.

    Args:
        candidates: a plan of runs that may be added; lines without draws are left out.
        draws: line -> draws of the current fit.
        noise: seed noise of log loss; each fit's own residual scale where left out.

    Raises:
        PlanError: no candidate costs at most `spend`.
    """
    runs = {line: [run for run in candidates.runs if run.line == line] for line in draws}
    ensembles = {
        line: ensemble(
            points_of(runs[line], candidates.params_column, candidates.flops_convention),
            draws[line],
            target=target,
            noise=noise,
        )
        for line in draws
        if runs[line]
    }
    cheapest = min((float(one.cost.min()) for one in ensembles.values()), default=math.inf)
    if cheapest > spend:
        allowed = f"from {cheapest:.3g} on" if ensembles else "a line with a law and runs to add"
        raise PlanError("no run can be added", got=f"{spend:.3g} FLOPs", allowed=allowed)
    chosen = dict(zip(ensembles, choose(list(ensembles.values()), spend), strict=True))
    return Proposal(
        runs=tuple(runs[line][place] for line, places in chosen.items() for place in places),
        spent=math.fsum(float(ensembles[line].cost[place]) for line, places in chosen.items() for place in places),
        target=target,
        before={line: math.sqrt(variance_left(one, [])) for line, one in ensembles.items()},
        after={line: math.sqrt(variance_left(one, chosen[line])) for line, one in ensembles.items()},
    )


@dataclass(frozen=True, eq=False)
class Ensemble:
    """One line's candidates under several laws (draws of its fit), linear around each law.

    Attributes:
        cost: FLOPs of each candidate [n].
        gradients: of each candidate's log loss in the five parameters [laws, n, 5], in units of the seed noise.
        goal: of the log loss at the target [laws, 5].
        information: of the runs there are, and of a weak prior [laws, 5, 5].
    """

    cost: Array
    gradients: Array
    goal: Array
    information: Array


def ensemble(points: Points, draws: Draws, *, target: float, noise: float | None = None) -> Ensemble:
    """The candidates at `points` and the loss at the target, under the draws of a `chinchilla` fit."""
    there = draws.fit.points
    sigma = max(draws.fit.sigma_log if noise is None else noise, 1e-6)
    laws = {name: values[:_LAWS, None] for name, values in draws.parameters.items()}
    laws.setdefault("E", np.zeros_like(laws["A"]))
    multiple = float(flops_per_token(there)(np.ones(1))[0])
    alpha, beta = laws["alpha"], laws["beta"]
    scale = (alpha * laws["A"] / (beta * laws["B"])) ** (1 / (alpha + beta))
    best = scale * (target / multiple) ** (beta / (alpha + beta))
    seen = _gradients(laws, there.params, there.tokens, there) / sigma
    return Ensemble(
        cost=points.compute,
        gradients=_gradients(laws, points.params, points.tokens, there) / sigma,
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
    """Places of the runs to add per line: the better of the two greedy choices."""

    def left(choice: list[list[int]]) -> float:
        return math.fsum(variance_left(one, places) for one, places in zip(ensembles, choice, strict=True))

    return min((greedy(ensembles, spend, rule) for rule in (gain_per_flop, plain_gain)), key=left)


Rule = Callable[[Array, Array], Array]


def gain_per_flop(gain: Array, cost: Array) -> Array:
    """Variance removed per FLOP."""
    return gain / cost


def plain_gain(gain: Array, cost: Array) -> Array:
    """Variance removed."""
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
    """Variance of the log loss at the target after observing the chosen candidates."""
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
        """Variance of the log loss at the target, averaged over laws."""
        return float(np.einsum("lp,lpq,lq->l", self.one.goal, self.covariance, self.one.goal).mean())

    @property
    def gain(self) -> Array:
        """Variance of the target that each candidate would remove, averaged over laws."""
        moved = np.einsum("lnp,lpq->lnq", self.one.gradients, self.covariance)
        own = (moved * self.one.gradients).sum(axis=-1)
        with_goal = np.einsum("lnq,lq->ln", moved, self.one.goal)
        gain: Array = (with_goal**2 / (1 + own)).mean(axis=0)
        return gain

    def best(self, rule: Rule, left: float) -> tuple[float, int]:
        """Score and place of the best candidate that can be paid and is not chosen yet; a score of 0 for none."""
        score = np.where(self.one.cost <= left, rule(self.gain, self.one.cost), 0.0)
        score[self.chosen] = 0.0
        place = int(np.argmax(score))
        return float(score[place]), place

    def observe(self, place: int) -> None:
        """Condition on candidate `place`, measured with the noise of one seed."""
        gradient = self.one.gradients[:, place]
        moved = np.einsum("lpq,lq->lp", self.covariance, gradient)
        total = 1 + (moved * gradient).sum(axis=1)
        self.covariance = self.covariance - moved[:, :, None] * moved[:, None, :] / total[:, None, None]
        self.chosen.append(place)


def proposed_sweep(sweep: Sweep, proposal: Proposal) -> str:
    """The text of a sweep file that runs the proposal with everything else as in `sweep`."""
    points = [{"shape": run.cell.shape, "tokens": run.run.tokens, "lines": [run.line]} for run in proposal.runs]
    values = _values(sweep, points)
    header = (
        f"# {len(proposal.runs)} runs for {proposal.spent:.3g} FLOPs, chosen to lower the variance of the loss that\n"
        f"# {sweep.name} predicts at {proposal.target:.3g} FLOPs. Its standard deviation (log loss), before -> after:\n"
    )
    for line, before in proposal.before.items():
        header += f"#   {line}: {before:.4f} -> {proposal.after[line]:.4f}\n"
    return header + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def _with_points(sweep: Sweep, points: list[JsonObject]) -> Sweep:
    return read_sweep(YamlDocument(sweep.path, _values(sweep, points), {}))


def _values(sweep: Sweep, points: list[JsonObject]) -> JsonObject:
    """The sweep's own text as values, with its grid replaced by points; tuning and replicates are not repeated."""
    values = copy.deepcopy(sweep.written)
    grid = values["grid"]
    kept = {key: grid[key] for key in ("ladder", "flops", "filters") if key in grid}
    values |= {"sweep": f"{sweep.name}-next", "grid": {"kind": "points", **kept, "points": points}}
    values.pop("tune", None)
    values["training"].pop("replicates", None)
    return dict(values)
