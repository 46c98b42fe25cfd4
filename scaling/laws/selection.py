"""Tuned cells: several settings tried, one kept, and what the choosing costs.

A cell that was tuned over (learning rate, weight decay, batch, …) becomes one point. The setting is chosen by mean
loss over seeds; with
three or more values of one numeric hyperparameter the cell's loss is the bottom of a parabola in its log, otherwise
the winner's mean.
The best of k near-equal settings is too low by the expected minimum of k normal draws (.56σ for 2, .84σ or .85σ for
3, 1.16σ for 5), σ the
noise of a setting's mean: reported, never subtracted silently. Inside a bootstrap the choice is made again in every
draw, so that its
uncertainty is in the interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.check import Check
from scaling.errors import FitError
from scaling.laws.bootstrap import Draws, refit
from scaling.laws.points import Array, Indices, Points, Texts
from scaling.laws.solve import Fit

NEAR_EQUAL_SIGMAS = 2.0  # settings within this many σ of the winner could have won


@dataclass(frozen=True, eq=False)
class Trials:
    """Runs of tuned cells: `points` [runs] with `cell`, the `setting` of each run, and its `value` where that is
    one number.
    """

    points: Points
    setting: Texts
    value: Array | None = None

    def __post_init__(self) -> None:
        """Refuses runs without cells."""
        if self.points.cell is None:
            raise FitError("runs of tuned cells need their cell", got="no column cell")
        if len(self.setting) != len(self.points):
            raise FitError("every run of a tuned cell needs its setting", got=f"{len(self.setting)} settings")


@dataclass(frozen=True)
class Choice:
    """What was kept of one cell.

    `contenders` settings lie within 2σ of the winner; `bias_nats` is how much choosing among them lowered the loss
    (None without
    seed noise); `at_edge` says that the best value was the first or last one tried; `parabola` that the loss is a
    parabola's.
    """

    cell: str
    setting: str
    loss: float
    settings: int
    contenders: int
    bias_nats: float | None
    at_edge: bool
    parabola: bool


def expected_minimum(count: int) -> float:
    """How far below the mean the least of `count` standard normal draws lies: 0, .564, .846, 1.029, 1.163, …

    The mean of the first order statistic, k·x·φ(x)·(1 − Φ(x))^(k−1), summed on a fine grid.
    """
    x = np.linspace(-9.0, 9.0, 4001)
    density = np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    above = 1.0 - np.clip(np.cumsum(density) * (x[1] - x[0]), 0.0, 1.0)
    return float(-(count * x * density * above ** (count - 1)).sum() * (x[1] - x[0])) if count > 1 else 0.0


def choose(trials: Trials, *, sigma: float | None = None) -> tuple[Points, tuple[Choice, ...]]:
    """One point per cell (in order of first appearance), and what was chosen.

    Args:
        trials: the runs.
        sigma: seed noise in nats, for the bias.
    """
    cells = _cells(trials)
    losses, choices = [], []
    for cell, rows in cells.items():
        choice = _choose_cell(trials, cell, rows, trials.points.loss[rows], sigma)
        choices.append(choice)
        losses.append(choice.loss)
    first = np.array([rows[0] for rows in cells.values()], dtype=np.intp)
    return trials.points.select(first).with_loss(np.array(losses)), tuple(choices)


def bootstrap_tuned(trials: Trials, fit: Fit, *, draws: int = 1000, seed: int = 0, sigma: float) -> Draws:
    """Residual draws of a fit to chosen cells in which every draw chooses again.

    Each run's loss is the law at its cell, plus the setting's own excess over the cell, plus a fresh seed; the cell
    also takes a fresh
    residual of the law, as in `bootstrap`.

    Args:
        fit: of the points that `choose` gave. sigma: seed noise in nats.
    """
    rng = np.random.default_rng(seed)
    cells = _cells(trials)
    smooth = np.exp(np.log(fit.points.loss) - fit.residuals)
    beyond = np.sqrt(max(fit.sigma_log**2 - (sigma / float(np.median(smooth))) ** 2, 0.0))
    losses = np.empty((draws, len(cells)))
    for j, (cell, rows) in enumerate(cells.items()):
        base = trials.points.loss[rows] - fit.points.loss[j] + smooth[j]
        shift = smooth[j] * np.expm1(beyond * rng.normal(size=(draws, 1)))
        drawn = base + shift + sigma * rng.normal(size=(draws, len(rows)))
        losses[:, j] = [_choose_cell(trials, cell, rows, row, None).loss for row in drawn]
    return refit(fit, np.maximum(losses, 1e-12), fit.points.weights, kind="residuals")


def selection_checks(choices: tuple[Choice, ...], difference: float | None = None) -> tuple[Check, ...]:
    """`optimum_at_edge` for cells whose best value was the first or last tried, `selection_bias` where choosing moved
    the losses.

    `difference`: a difference of losses (nats) that rests on these cells; the bias is a warning where it is over half
        of it.
    """
    checks = []
    edge = [choice.cell for choice in choices if choice.at_edge]
    if edge:
        where = f"{len(edge)} of {len(choices)} cells: {', '.join(edge[:5])}"
        message = f"the best hyperparameter is the first or last one tried in {where}"
        checks.append(Check("optimum_at_edge", "warning", message))
    biases = [choice.bias_nats for choice in choices if choice.bias_nats]
    if biases:
        mean = float(np.mean(biases))
        heavy = difference is not None and mean > 0.5 * abs(difference)
        message = f"choosing the best of near-equal settings lowered {len(biases)} cells by {mean:.4f} nats on average"
        checks.append(Check("selection_bias", "warning" if heavy else "info", message))
    return tuple(checks)


def _cells(trials: Trials) -> dict[str, Indices]:
    cell = trials.points.cell
    assert cell is not None
    return {str(name): np.flatnonzero(cell == name) for name in dict.fromkeys(cell.tolist())}


def _choose_cell(trials: Trials, cell: str, rows: Indices, loss: Array, sigma: float | None) -> Choice:
    settings = list(dict.fromkeys(trials.setting[rows].tolist()))
    own = [trials.setting[rows] == name for name in settings]
    means = np.array([loss[mask].mean() for mask in own])
    seeds = np.array([mask.sum() for mask in own])
    best = int(means.argmin())
    values = None if trials.value is None else np.array([trials.value[rows][mask][0] for mask in own])
    at_edge = values is not None and len(values) > 1 and values[best] in (values.min(), values.max())
    bottom = _parabola_bottom(np.log(values), means) if values is not None and len(values) > 2 and not at_edge else None
    contenders, bias = 1, None
    if sigma is not None:
        noise = sigma / np.sqrt(float(seeds.mean()))
        contenders = int((means <= means[best] + NEAR_EQUAL_SIGMAS * noise).sum())
        bias = expected_minimum(contenders) * noise
    loss_kept = float(means[best]) if bottom is None else bottom
    return Choice(cell, settings[best], loss_kept, len(settings), contenders, bias, bool(at_edge), bottom is not None)


def _parabola_bottom(x: Array, y: Array) -> float | None:
    """Value at the vertex of the least-squares parabola; None where it opens downward or turns outside the values
    tried.
    """
    c2, c1, c0 = np.polyfit(x - x.mean(), y, 2)
    if c2 <= 0:
        return None
    place = -c1 / (2.0 * c2)
    if not x.min() - x.mean() < place < x.max() - x.mean():
        return None
    return float(c0 + 0.5 * c1 * place)
