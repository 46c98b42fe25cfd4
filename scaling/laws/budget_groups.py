"""Compute budgets of points that name none: where training FLOPs cluster, each cluster is a budget.

Rounding to whole batches and to real shapes moves the FLOPs of one budget by some per cent, while budgets lie a factor
apart. So sorted FLOPs are cut wherever two neighbours are further apart than a run may miss its budget, and the
clusters are budgets if each is narrow, most hold several sizes, and they lie well apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scaling.laws.points import Array, Points

_CUT = 0.08  # assumption: neighbours in sorted log FLOPs further apart than this belong to two budgets
_WIDTH = 0.2  # assumption: the widest budget, in log FLOPs (±10 %)
_APART = 2.0  # assumption: gaps between budgets are this many times the widest budget
_SIZES = 3  # an isoFLOP minimum takes three sizes
_MOST = 0.8  # share of the points that must lie in clusters of three sizes or more
MIN_BUDGETS = 2


class Recognised(NamedTuple):
    """Budget of every point [n] (the geometric mean FLOPs of its cluster), or None; `reason` says which or why not."""

    budget: Array | None
    reason: str


def recognised_budgets(points: Points) -> Recognised:
    """Budgets where the FLOPs of `points` cluster."""
    log_compute = np.log(points.compute)
    order = np.argsort(log_compute, kind="stable")
    gaps = np.diff(log_compute[order])
    cluster = np.empty(len(points), dtype=np.intp)
    cluster[order] = np.concatenate([[0], np.cumsum(gaps > _CUT)])
    members = [np.flatnonzero(cluster == k) for k in range(int(cluster.max()) + 1)]
    sizes = np.array([len(np.unique(points.params[rows])) for rows in members])
    good = [rows for rows, count in zip(members, sizes, strict=True) if count >= _SIZES]
    if len(good) < MIN_BUDGETS:
        return Recognised(
            None, f"FLOPs form {len(good)} clusters of {_SIZES} sizes or more; budgets take {MIN_BUDGETS}"
        )
    share = sum(len(rows) for rows in good) / len(points)
    if share < _MOST:
        return Recognised(None, f"only {share:.0%} of the points lie in clusters of equal FLOPs")
    width = max(float(np.ptp(log_compute[rows])) for rows in members)
    if width > _WIDTH:
        return Recognised(None, f"FLOPs of one cluster spread over {np.expm1(width):.0%}: no budget is that wide")
    between = gaps[gaps > _CUT]
    if width > 0.0 and between.min() < _APART * width:
        return Recognised(None, f"clusters of FLOPs lie {np.expm1(between.min()):.0%} apart and are {width:.0%} wide")
    middles = np.array([np.exp(log_compute[rows].mean()) for rows in members])
    return Recognised(middles[cluster], f"{len(members)} budgets recognised where FLOPs cluster")
