"""Noise of a joint law over lines some of whose cells were tuned: every draw chooses their settings again.

The parts of the noise are those of the design (`noise_parts`): what a budget shares and what the form misses at a cell
are drawn as everywhere. What seeds do to a cell is not: there the losses of all its settings are drawn again and one is
kept by the rule that kept it (`tuning_bias`), so that a line that was tuned over more settings has no advantage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.noise_groups import SCATTER
from scaling.laws.noise_parts import NoiseParts
from scaling.laws.points import Array, Points
from scaling.laws.tuning_bias import Trials, choices_again


@dataclass(frozen=True, eq=False)
class TunedRuns:
    """All runs of the cells of a study; `sigma` is the seed noise in nats, None where no cell was repeated."""

    trials: Trials
    sigma: float | None


def chosen_again(tuned: TunedRuns, points: Points, parts: NoiseParts, *, draws: int, seed: int) -> Array:
    """Noise of the design in log loss [draws, points].

    Args:
        points: those of the fit. parts: of its noise.
        draws, seed: of the random draws.
    """
    rng = np.random.default_rng(seed)
    nodes, level = parts.draw_nodes(rng, draws)
    own, others = parts.groups.draw_apart(nodes, rng)
    noise = np.zeros((2, draws, len(points)))
    noise[:, :, parts.rows > 0] = level[:, None] * np.stack([own, others])
    share = 1.0 - nodes[:, SCATTER]
    runs = level * np.sqrt(share)  # standard deviation of a run about its cell, in log loss
    seeds = runs * parts.loss
    if parts.groups.scatter is None and tuned.sigma is not None:  # no repeated cell: runs differ by scatter too
        seeds = np.minimum(seeds, tuned.sigma)
    beyond = np.sqrt(np.maximum(runs**2 - (seeds / parts.loss) ** 2, 0.0))
    told_apart = tuned.sigma if tuned.sigma is not None else float(np.median(seeds))
    for rows, deviation in choices_again(tuned.trials, points, sigma=seeds, profile_sigma=told_apart, rng=rng):
        common = beyond * rng.normal(size=draws)
        noise[0][:, rows] = common[:, None] + deviation * points.loss[rows] / parts.loss  # the parts are relative
    total: Array = noise.sum(axis=0)
    return total
