"""A loss curve in characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

COLUMNS, LINES = 60, 8


def curve_plot(points: Sequence[tuple[int, float]]) -> str:
    """Losses over the logarithm of the step: the mean of the points of each column, as a mark at its height.

    Args:
        points: (step, loss) with rising steps from 1, at least two of them.
    """
    first, last = math.log(max(points[0][0], 1)), math.log(points[-1][0])
    columns: dict[int, list[float]] = {}
    for step, loss in points:
        place = (math.log(max(step, 1)) - first) / ((last - first) or 1.0)
        columns.setdefault(round(place * (COLUMNS - 1)), []).append(loss)
    means = {column: sum(losses) / len(losses) for column, losses in columns.items()}
    low, high = min(means.values()), max(means.values())
    heights = {column: round((mean - low) / ((high - low) or 1.0) * (LINES - 1)) for column, mean in means.items()}
    rows = [
        "".join("•" if heights.get(column) == line else " " for column in range(COLUMNS)).rstrip()
        for line in reversed(range(LINES))
    ]
    labels = {0: f"{high:.3f}", LINES - 1: f"{low:.3f}"}
    plot = [f"{labels.get(at, ''):>8} │{row}" for at, row in enumerate(rows)]
    steps = f"{points[0][0]}" + f"{points[-1][0]}".rjust(COLUMNS - len(str(points[0][0])))
    return "\n".join([*plot, " " * 9 + "└" + "─" * COLUMNS, " " * 10 + steps])
