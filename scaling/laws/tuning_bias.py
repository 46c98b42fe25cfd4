"""Tuned cells: several settings tried, one kept, and the selection bias (winner's curse).

A cell that was tuned over (learning rate, weight decay, batch, …) keeps one setting, the one with the lowest mean over
the seeds that all its settings have. With three or more values of one number the cell's loss is the bottom of a
parabola in its log, otherwise the winner's mean; the winner's runs are shifted to it, so that they still show what a
seed is worth. The parabola goes through the winner's neighbourhood alone: over a factor of 16 in the rate the loss is
no parabola (`results/ablation`), and the far values would tilt it.

The best of k near-equal settings is too low by the expected minimum of k normal draws (.56σ for 2, .85σ for 3, 1.16σ
for 5, σ the noise of a setting's mean), a clear winner by nothing. How much it is in a given cell is found by choosing
again and again: K is the rule above, p how the settings differ with seed noise taken out (`_profiles`), ε fresh noise;
then K(p + ε) − K(p) is the error of choosing, and its mean the bias. The bias is reported, never subtracted from a
loss. A bootstrap draw is the fitted loss minus an error of choosing, so that the interval holds both the bias and the
uncertainty of the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scaling import checks
from scaling.checks import Check
from scaling.errors import FitError
from scaling.laws.draws import Draws, refit
from scaling.laws.fitting import Fit
from scaling.laws.points import Array, Indices, Points, Texts

NEAR_EQUAL_SIGMAS = 2.0  # settings within this many σ of the winner could have won
NEAR_FACTOR = 3.0  # of the winner: how far the loss is taken to be a parabola; an assumption
_REPLAYS = 2000  # choices made again for the bias of one cell: its error is 2 % of σ
_LEAST_FREEDOM = 3  # below it the noise level of a draw has no variance


@dataclass(frozen=True, eq=False)
class Trials:
    """All runs of some cells, tuned ones and others.

    Args:
        points: the runs, with `cell`; with `seed` where several seeds were run.
        setting: the setting of each run [runs]; a cell with one is not tuned.
        value: the number that was tuned [runs]; NaN where none or several were.
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
class Selection:
    """What was kept of one cell.

    Args:
        loss: of the cell, nats; `shift` is what the winner's runs are moved by to have it (0 without a parabola).
        settings: tried; `contenders` of them lie within 2σ of the winner.
        noise_nats: σ of a setting's mean; `bias_nats` how much choosing lowered the loss. None without seed noise.
        at_edge: the best value was the first or last one tried; None where that says nothing: of one or two values, or
            of settings that are no values of one number.
        parabola: the loss is the bottom of a parabola.
    """

    cell: str
    setting: str
    loss: float
    shift: float
    settings: int
    contenders: int
    noise_nats: float | None
    bias_nats: float | None
    at_edge: bool | None
    parabola: bool

    @classmethod
    def of_one(cls, cell: str, loss: float) -> Selection:
        """The only run of a cell, which nothing was chosen from."""
        return cls(cell, "", loss, 0.0, 1, 1, None, None, None, False)


@dataclass(frozen=True, eq=False)
class _TunedCell:
    """The trials of one cell: runs of each setting, and those with the seeds that all settings have."""

    name: str
    settings: list[str]
    runs: list[Indices]
    shared: list[Indices]
    log_values: Array | None

    def means(self, loss: Array) -> Array:
        """Mean loss of each setting over the shared seeds [settings]."""
        return np.array([loss[rows].mean() for rows in self.shared])


def expected_minimum(count: int) -> float:
    """How far below the mean the least of `count` standard normal draws lies: 0, .564, .846, 1.029, 1.163, …

    The mean of the first order statistic, k·x·φ(x)·(1 − Φ(x))^(k−1), summed on a fine grid.
    """
    x = np.linspace(-9.0, 9.0, 4001)
    density = np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    above = 1.0 - np.clip(np.cumsum(density) * (x[1] - x[0]), 0.0, 1.0)
    return float(-(count * x * density * above ** (count - 1)).sum() * (x[1] - x[0])) if count > 1 else 0.0


def choose(trials: Trials, *, sigma: float | None = None) -> tuple[Points, tuple[Selection, ...]]:
    """The runs that are kept, with the loss of their cell, and what was chosen (cells in order of first appearance).

    Args:
        trials: the runs.
        sigma: seed noise in nats, for the bias.
    """
    loss, cells = trials.points.loss.copy(), _cells(trials)
    profiles = {} if sigma is None else _profiles(cells, loss, sigma)
    kept, choices = [], []
    for cell in cells:
        choice, rows = _choose_cell(cell, loss, sigma, profiles.get(cell.name))
        choices.append(choice)
        loss[rows] += choice.shift
        kept.append(rows)
    order = np.concatenate(kept)
    return trials.points.select(order).with_loss(loss[order]), tuple(choices)


def selection_draws(
    trials: Trials, points: Points, *, sigma: float, level: float, freedom: int, draws: int, seed: int
) -> Array:
    """Where the truth may be, relative to a law [draws, points]: log deviations of the points that `choose` kept.

    Args:
        trials: all runs. points: those kept (or some of them).
        sigma: seed noise in nats. level: standard deviation of a point about the law, relative; what seed noise does
            not explain of it is drawn too, once for a cell.
        freedom: degrees of freedom of `level`: each draw has a noise level of its own, as uncertain as they leave it.
        draws, seed: of the random draws.
    """
    rng = np.random.default_rng(seed)
    freedom = max(freedom, _LEAST_FREEDOM)
    scale = np.sqrt(freedom / rng.chisquare(freedom, size=draws))
    beyond = np.sqrt(max(level**2 - (sigma / float(np.median(points.loss))) ** 2, 0.0))
    deviations = np.zeros((draws, len(points)))
    for rows, seeds in choices_again(trials, points, sigma=sigma * scale, profile_sigma=sigma, rng=rng):
        common = beyond * scale * rng.normal(size=draws)
        deviations[:, rows] = common[:, None] + seeds
    return deviations


def choices_again(
    trials: Trials, points: Points, *, sigma: Array, profile_sigma: float, rng: np.random.Generator
) -> Iterator[tuple[Indices, Array]]:
    """For every cell of `trials` that has points: their rows, and where the truth may be relative to a law as far as
    seeds and the choice of a setting go [draws, rows], in log loss.

    Args:
        sigma: seed noise of every draw [draws], nats. profile_sigma: that by which settings are told apart.
    """
    keys, cells = _keys(points), _cells(trials)
    profiles = _profiles(cells, trials.points.loss, profile_sigma)
    for cell in cells:
        rows = np.flatnonzero(keys == cell.name)
        if not len(rows):
            continue
        error = _errors(cell, trials.points.loss, profiles[cell.name], sigma, rng)
        scatter = rng.normal(size=(len(sigma), len(rows)))
        scatter = (scatter - scatter.mean(axis=1, keepdims=True)) * sigma[:, None]
        yield rows, (scatter - error[:, None]) / points.loss[rows]


def tuned_deviations(trials: Trials, fit: Fit, *, draws: int, seed: int, sigma: float | None) -> Array:
    """`selection_draws` about a fit [draws, points]; without seed noise all of its residuals count as such.

    Args:
        trials: all runs. fit: of the points that `choose` gave. sigma: seed noise in nats.
    """
    relative = fit.sigma_log
    nats = sigma if sigma is not None else relative * float(np.median(fit.points.loss))
    freedom = len(set(_keys(fit.points).tolist())) - fit.layout.free_count
    return selection_draws(trials, fit.points, sigma=nats, level=relative, freedom=freedom, draws=draws, seed=seed)


def bootstrap_tuned(fit: Fit, deviations: Array) -> Draws:
    """Residual draws of a fit to chosen runs, every one with its own `tuned_deviations`: each draw chose again."""
    smooth = np.log(fit.points.loss) - fit.residuals
    return refit(fit, np.exp(smooth + deviations), fit.points.weights, kind="residuals")


def selection_checks(choices: Sequence[Selection]) -> tuple[Check, ...]:
    """Of the tuned cells of one line: `rate_at_edge` where the best value was the first or last one tried,
    `selection_bias` where choosing lowered the losses, `selection_bias_unknown` without seed noise.
    """
    result = []
    tuned = [choice for choice in choices if choice.settings > 1]
    edge = [choice.cell for choice in tuned if choice.at_edge]
    if edge:
        where = f"{len(edge)} of {len(tuned)} tuned cells ({', '.join(edge[:3])}{', …' if len(edge) > 3 else ''})"
        message = f"the best hyperparameter is the first or last one tried in {where}: better ones may lie beyond"
        result.append(checks.RATE_AT_EDGE(message))
    with_bias = [choice for choice in tuned if choice.bias_nats is not None and choice.noise_nats is not None]
    if with_bias:
        biases = [choice.bias_nats or 0.0 for choice in with_bias]
        most_settings = max(choice.settings for choice in with_bias)
        most = max(expected_minimum(choice.settings) * (choice.noise_nats or 0.0) for choice in with_bias)
        message = (
            f"the best of up to {most_settings} settings was kept in {len(with_bias)} cells, "
            f"which lowered their losses by {np.mean(biases):.4f} nats on average, {max(biases):.4f} at most "
            f"({most:.4f} if the settings were equally good); the losses are as measured, the intervals include it"
        )
        result.append(checks.SELECTION_BIAS(message))
    elif tuned:
        message = (
            f"the best of up to {max(choice.settings for choice in tuned)} settings was kept in {len(tuned)} cells: "
            "such losses are too low, by an amount that only several seeds of one setting could tell"
        )
        result.append(checks.SELECTION_BIAS_UNKNOWN(message))
    return tuple(result)


def _keys(points: Points) -> Texts:
    """Line and cell of every point, as one text."""
    assert points.cell is not None
    if points.line is None:
        return points.cell
    return np.array([f"{line} {cell}" for line, cell in zip(points.line.tolist(), points.cell.tolist(), strict=True)])


def _cells(trials: Trials) -> list[_TunedCell]:
    keys = _keys(trials.points)
    return [_cell(trials, name, np.flatnonzero(keys == name)) for name in dict.fromkeys(keys.tolist())]


def _cell(trials: Trials, name: str, rows: Indices) -> _TunedCell:
    settings = list(dict.fromkeys(trials.setting[rows].tolist()))
    runs = [rows[trials.setting[rows] == setting] for setting in settings]
    shared = runs
    if trials.points.seed is not None:
        seeds = [set(trials.points.seed[own].tolist()) for own in runs]
        common = sorted(set.intersection(*seeds))
        if common:
            shared = [own[np.isin(trials.points.seed[own], common)] for own in runs]
    values = None if trials.value is None else np.array([trials.value[own[0]] for own in runs])
    usable = values is not None and len(set(values.tolist())) == len(runs) > 2 and bool((values > 0).all())
    return _TunedCell(name, settings, runs, shared, np.log(values) if values is not None and usable else None)


def _choose_cell(
    cell: _TunedCell, loss: Array, sigma: float | None, profile: Array | None
) -> tuple[Selection, Indices]:
    """What is kept of a cell, and the winner's runs; `profile` where σ is known."""
    means = cell.means(loss)
    winners, bottoms = _keep(means[None], cell.log_values)
    best, shift = int(winners[0]), float(bottoms[0] - means[winners[0]])
    place = cell.log_values
    at_edge = None if place is None else bool(place[best] in (place.min(), place.max()))
    rows = cell.runs[best]
    contenders, noise, bias = len(cell.settings), None, None
    if sigma is not None and profile is not None:
        noise = sigma / np.sqrt(np.mean([len(own) for own in cell.shared]))
        contenders = int((means <= means[best] + NEAR_EQUAL_SIGMAS * noise).sum())
        errors = _errors(cell, loss, profile, np.full(_REPLAYS, sigma), np.random.default_rng(0))
        bias = max(0.0, -float(errors.mean())) if len(cell.settings) > 1 else 0.0
    kept = float(loss[rows].mean() + shift)
    known_sigma = None if noise is None else float(noise)
    setting, parabola = cell.settings[best], shift != 0.0
    return Selection(
        cell.name, setting, kept, shift, len(means), contenders, known_sigma, bias, at_edge, parabola
    ), rows


def _errors(cell: _TunedCell, loss: Array, profile: Array, sigma: Array, rng: np.random.Generator) -> Array:
    """Errors of a cell's loss [draws] when the noise of its runs is drawn again (σ [draws] nats) about the settings'
    `profile` and one is chosen again; fresh seeds of the winner alone dilute the error of choosing.
    """
    counts = np.array([len(own) for own in cell.shared])
    noise = sigma[:, None] / np.sqrt(counts) * rng.normal(size=(len(sigma), len(counts)))
    best, kept = _keep(profile + noise, cell.log_values)
    errors = kept - _keep(profile[None], cell.log_values)[1]
    chosen = int(_keep(cell.means(loss)[None], cell.log_values)[0][0])
    fresh = len(cell.runs[chosen]) - len(cell.shared[chosen])
    if fresh:
        share = fresh / len(cell.runs[chosen])
        again = sigma / np.sqrt(fresh) * rng.normal(size=len(sigma))
        errors = errors + share * (again - noise[np.arange(len(best)), best])
    return np.asarray(errors)


def _profiles(cells: Sequence[_TunedCell], loss: Array, sigma: float) -> dict[str, Array]:
    """By how much the settings of each cell differ [settings], seed noise aside.

    Cells with the same settings have a pattern in common and each its own departure from it. Both are drawn together
    by the part of their scatter that noise explains (James–Stein).
    """
    groups: dict[tuple[str, ...], list[_TunedCell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.settings), []).append(cell)
    profiles = {}
    for settings, members in groups.items():
        means = np.array([cell.means(loss) for cell in members])
        centred = means - means.mean(axis=1, keepdims=True)
        seeds = float(np.mean([len(own) for cell in members for own in cell.shared]))
        noise = (len(settings) - 1) * sigma**2 / seeds  # squared scatter of one cell's settings by noise alone
        pattern = centred.mean(axis=0)
        own = _shrunk(centred - pattern, (len(members) - 1) * noise)
        profile = _shrunk(pattern, noise / len(members)) + own
        profiles.update({cell.name: row for cell, row in zip(members, profile, strict=True)})
    return profiles


def _shrunk(scatter: Array, expected: float) -> Array:
    """`scatter`, smaller by what noise is expected to add to its sum of squares."""
    squares = float((scatter**2).sum())
    return scatter * max(0.0, 1.0 - expected / squares) if squares > 0 else scatter


def _keep(means: Array, log_values: Array | None) -> tuple[Indices, Array]:
    """For each row of means [draws, settings]: the winner, and the loss that is kept.

    With `log_values` that is the bottom of the least-squares parabola through the values near the winner, unless the
    winner is the first or last value, the parabola opens downward, or it turns outside the values near.
    """
    best = means.argmin(axis=1)
    kept = means[np.arange(len(means)), best]
    if log_values is None:
        return best, kept
    for winner in set(best.tolist()):
        near = _near(log_values, winner)
        if near is not None:
            rows = np.flatnonzero(best == winner)
            kept[rows] = _bottoms(log_values[near] - log_values[winner], means[np.ix_(rows, near)], kept[rows])
    return best, kept


def _near(log_values: Array, winner: int) -> Indices | None:
    """The winner's neighbours on both sides and all values within `NEAR_FACTOR` of it; None at an edge."""
    away = log_values - log_values[winner]
    if not ((away < 0).any() and (away > 0).any()):
        return None
    low, high = away[away < 0].max(), away[away > 0].min()
    reach = np.log(NEAR_FACTOR)
    return np.flatnonzero((away >= min(low, -reach)) & (away <= max(high, reach)))


def _bottoms(x: Array, means: Array, otherwise: Array) -> Array:
    """Bottom of the parabola through each row of means [draws, values] where it lies between the values."""
    c = means @ np.linalg.pinv(np.vander(x, 3, increasing=True)).T
    bent = c[:, 2] > 0
    place = np.where(bent, -c[:, 1], 0.0) / np.where(bent, 2.0 * c[:, 2], 1.0)
    inside = bent & (place > x.min()) & (place < x.max())
    return np.where(inside, c[:, 0] + 0.5 * c[:, 1] * place, otherwise)
