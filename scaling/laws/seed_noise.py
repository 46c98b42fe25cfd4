"""Seed noise: the standard deviation of one seed, with which every difference of losses is compared.

Cells trained with several seeds give the standard deviation of one seed, pooled over cells with n − 1 degrees of
freedom each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.points import Points


@dataclass(frozen=True)
class SeedNoise:
    """Standard deviation of one seed, from `cells` repeated cells: `sigma` of the loss, `sigma_log` of log loss."""

    sigma: float
    sigma_log: float
    cells: int
    freedom: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `sigma` from its χ² (Wilson and Hilferty's cube-root approximation to the quantiles)."""
        ends = []
        for z in (1.959964, -1.959964):
            k = self.freedom
            quantile = k * (1.0 - 2.0 / (9.0 * k) + z * np.sqrt(2.0 / (9.0 * k))) ** 3
            ends.append(float(self.sigma * np.sqrt(k / max(quantile, 1e-3))))
        return ends[0], ends[1]


def seed_noise(points: Points) -> SeedNoise | None:
    """Pooled over the cells whose points differ in nothing but the seed; None where no cell has several.

    A cell is `cell` where given, else equal (line, params, tokens, trunk-free) points.
    """
    groups = repeats(points)
    squares, squares_log, freedom = 0.0, 0.0, 0
    for rows in groups:
        loss = points.loss[rows]
        squares += float(((loss - loss.mean()) ** 2).sum())
        squares_log += float(((np.log(loss) - np.log(loss).mean()) ** 2).sum())
        freedom += len(rows) - 1
    if not freedom:
        return None
    return SeedNoise(float(np.sqrt(squares / freedom)), float(np.sqrt(squares_log / freedom)), len(groups), freedom)


def repeats(points: Points) -> list[np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Rows of each group of two or more points that are one cell with several seeds."""
    if points.seed is None:
        return []
    line = points.line if points.line is not None else np.full(len(points), "")
    cell = points.cell if points.cell is not None else np.full(len(points), "")
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, key in enumerate(
        zip(line.tolist(), cell.tolist(), points.params.tolist(), points.tokens.tolist(), strict=True)
    ):
        groups.setdefault(key, []).append(i)
    seeds = points.seed
    return [np.array(rows) for rows in groups.values() if len(set(seeds[rows].tolist())) > 1]
