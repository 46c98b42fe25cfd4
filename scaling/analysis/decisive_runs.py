"""The cells that would give a comparison that is "not resolved" a verdict, among those that a sweep can add.

Ways to extend both lines are tried: one, three or seven further seeds of every cell, further sizes at the budgets that
both have, budgets that only one of them has, and one, two or three larger budgets with as many sizes as there are now,
alone and with further seeds.
The chance of a verdict under each is simulated (`laws.resolving`) at the very cells that would be run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from scaling.analysis.comparisons import Comparison
from scaling.analysis.data_points import shaped_label
from scaling.laws.points import Points
from scaling.laws.resolving import BUDGETS, ENOUGH, SEEDS, chance_of_verdict
from scaling.sweeps.candidates import Candidate


@dataclass(frozen=True)
class Decisive:
    """One way to extend a line and the reference, in words, and the chance that it gives a verdict.

    `compute` is of all its cells, FLOPs.
    """

    line: str
    reference: str
    what: str
    cells: tuple[Candidate, ...]
    compute: float
    chance: float

    @property
    def runs(self) -> int:
        """How many runs that is."""
        return sum(len(cell.runs) for cell in self.cells)

    @property
    def likely(self) -> bool:
        """Whether a verdict is likely enough to spend FLOPs on it."""
        return self.chance >= ENOUGH

    def __str__(self) -> str:
        return f"{self.what} ({self.runs} runs, {self.compute:.2g} FLOPs, chance of a verdict {self.chance:.0%})"


def decisive_runs(compared: Comparison, offered: Sequence[Candidate], *, convention: str) -> list[Decisive]:
    """Every way that was tried, the cheapest first; none where the comparison rests on isoFLOP minima.

    Args:
        compared: two lines of a study.
        offered: cells that may be added.
        convention: how C is counted.
    """
    if compared.joint is None:
        return []
    names = (compared.line.name, compared.reference.name)
    points, chance = compared.joint.joint.fit.points, chance_of_verdict(compared.joint)
    tried = []
    for what, cells in _ways(compared, [one for one in offered if one.line in names]):
        compute = sum(one.compute for one in cells)
        larger = with_cells(points, cells, convention=convention)
        tried.append(Decisive(*names, what, tuple(cells), compute, chance(larger)))
    return sorted(tried, key=lambda one: one.compute)


def with_cells(points: Points, cells: Sequence[Candidate], *, convention: str) -> Points:
    """A design with further cells after its own points; their losses mean nothing."""
    runs = [planned for cell in cells for planned in cell.points]
    own = np.arange(len(points))
    larger = points.select(np.concatenate([own, np.zeros(len(runs), dtype=np.intp)]))

    def column(name: str, values: Sequence[object]) -> Any:
        now = getattr(points, name)
        return None if now is None else np.concatenate([now, np.array(values)])

    spent = [f"D {run.run.tokens:g}" if run.budget is None else f"C {run.budget:g}" for run in runs]
    return replace(
        larger,
        params=column("params", [float(run.counts.column(points.params_column)) for run in runs]),
        tokens=column("tokens", [float(run.run.tokens) for run in runs]),
        flops=column("flops", [run.flops if convention == "exact" else run.flops_6nd for run in runs]),
        budget=column("budget", [run.budget or 0.0 for run in runs]),
        line=column("line", [run.line for run in runs]),
        cell=column("cell", [shaped_label(what, run.run.shape) for what, run in zip(spent, runs, strict=True)]),
        seed=column("seed", [str(run.run.seed) for run in runs]),
        trunk=column("trunk", [f"further run {n}" for n in range(len(runs))]),
    )


def _ways(compared: Comparison, offered: Sequence[Candidate]) -> Iterator[tuple[str, list[Candidate]]]:
    """Ways to extend both lines, each with its cells; those with none are left out."""
    seeds = _by_cell([one for one in offered if one.kind == "seed"])
    by_count = {f"{count} further seed{'s' if count > 1 else ''} of every cell": count for count in SEEDS if seeds}
    repeated = {what: [one for own in seeds for one in own[:count]] for what, count in by_count.items()}
    yield from repeated.items()
    new = [one for one in offered if one.kind == "cell" and one.budget is not None]
    mine, theirs = set(compared.line.budgets), set(compared.reference.budgets)
    if cells := [one for one in new if one.budget in mine & theirs]:
        yield "further sizes at the shared budgets", cells
    sizes = _sizes(compared)
    if cells := _spread([one for one in new if one.budget in (theirs if one.line == compared.line.name else mine)
                         and one.budget not in mine & theirs], sizes):  # fmt: skip
        yield "the budgets that only one of the lines has", cells
    top = max(mine | theirs, default=0.0)
    above = sorted({one.budget for one in new if one.budget is not None and one.budget > top})
    for count in BUDGETS:
        if len(above) >= count:
            cells = _spread([one for one in new if one.budget in above[:count]], sizes)
            if {one.line for one in cells} == {compared.line.name, compared.reference.name}:
                what = f"{count} larger budget{'s' if count > 1 else ''}"
                yield what, cells
                yield from ((f"{what} and {more}", [*cells, *again]) for more, again in repeated.items())


def _by_cell(offered: Sequence[Candidate]) -> list[list[Candidate]]:
    """Further seeds of each cell, ascending."""
    cells: dict[object, list[Candidate]] = {}
    for one in offered:
        cells.setdefault(one.key, []).append(one)
    return list(cells.values())


def _sizes(compared: Comparison) -> int:
    """Sizes per budget that the lines have."""
    counts = [
        sum(cell.budget == budget for cell in line.cells)
        for line in (compared.line, compared.reference)
        for budget in line.budgets
    ]
    return max(1, int(median(counts))) if counts else 1


def _spread(cells: Sequence[Candidate], sizes: int) -> list[Candidate]:
    """At most `sizes` cells of every line and budget, evenly spread over those offered."""
    groups: dict[tuple[str, float | None], list[Candidate]] = {}
    for one in cells:
        groups.setdefault((one.line, one.budget), []).append(one)
    kept = []
    for group in groups.values():
        group.sort(key=lambda one: one.points[0].counts.params_matmul)
        places = np.unique(np.linspace(0, len(group) - 1, min(sizes, len(group))).round().astype(int))
        kept += [group[place] for place in places]
    return kept
