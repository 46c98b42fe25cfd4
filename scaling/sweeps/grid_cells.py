"""Cells: which shapes of which line train for how many tokens.

`isoflop`: per budget C the shapes around the line's centre (targets evenly spaced in log N over a factor `span`,
each taking the nearest free shape), D = C / FLOPs per token. `tokens_per_param`: every shape times every multiple, D
= multiple · N. `points`: as listed. N is the sweep's own column. Points of `further` come after the cells of any grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from scaling.errors import PlanError
from scaling.rows import CellKey
from scaling.run import Shape
from scaling.sweeps import counting
from scaling.sweeps.centres import Law
from scaling.sweeps.counting import Counts, RankOf
from scaling.sweeps.ladders import Ladder, Rung, ShapeSpec
from scaling.sweeps.schema import Family, IsoFlopGrid, Point, PointsGrid, Sweep, TokensPerParamGrid, line_name


@dataclass(frozen=True)
class PlannedLine:
    """One (family, rank ratio)."""

    name: str
    family_name: str
    family: Family
    rank_ratio: float | None

    @property
    def rank_of(self) -> RankOf | None:
        """What the rank ratio multiplies; None in a dense line."""
        return None if self.rank_ratio is None else self.family.rank_of or "in_features"


@dataclass(frozen=True)
class Model:
    """One shape as one line builds it. `size` is N in the sweep's column; FLOPs are per trained token."""

    name: str
    shape: Shape
    ranks: Mapping[str, int] | None
    counts: Counts
    size: int
    flops_exact: float
    flops_6nd: float
    flops: float  # in the sweep's convention


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One model and the tokens it should see; `further` where `grid.further` asks for it, with its `seeds`."""

    key: CellKey
    line: PlannedLine
    model: Model
    budget: float | None
    tokens: float
    further: bool = False
    seeds: tuple[int, ...] = ()


ROUNDING = 0.01  # relative: tokens that differ by less are of one cell
Batches = dict[CellKey, list[tuple[int, int]]]  # (batch tokens, steps) of each batch size of a cell


def lines(sweep: Sweep) -> list[PlannedLine]:
    """The lines in the order of the file."""
    return [
        PlannedLine(line_name(name, ratio), name, family.of_line(line_name(name, ratio)), ratio)
        for name, family in sweep.families.items()
        for ratio in family.rank_ratio or (None,)
    ]


def build(line: PlannedLine, rung: Rung, *, vocab_size: int, sweep: Sweep) -> Model:
    """The model of a line at a shape, with its counts."""
    shape = rung.shape(vocab_size)
    ratio, rank_of = line.rank_ratio, line.rank_of
    ranks = None if ratio is None or rank_of is None else counting.matrix_ranks(shape, ratio, rank_of)
    counts = counting.count(shape, ranks)
    exact = counting.training_flops(
        shape,
        ranks,
        sequence_length=sweep.training.sequence_length,
        tokens=1,
        guided=line.family.self_guided,
    )
    nd = counting.flops_6nd(counts.params_total, 1)
    chosen = exact if sweep.grid.flops == "exact" else nd
    return Model(rung.name, shape, ranks, counts, counts.column(sweep.params_column), exact, nd, chosen)


def cells(sweep: Sweep, line: PlannedLine, *, vocab_size: int, centre: Law | None) -> Iterator[PlannedCell]:
    """Every cell that the grid asks of a line, and its further ones, before any filter."""
    own: dict[str, list[PlannedCell]] = {}
    for cell in _grid_cells(sweep, line, vocab_size=vocab_size, centre=centre):
        own.setdefault(cell.model.name, []).append(cell)
        yield cell
    for cell in _points(sweep, line, sweep.grid.further or (), "further", vocab_size=vocab_size):
        same = (one for one in own.get(cell.model.name, ()) if abs(cell.tokens / one.tokens - 1) <= ROUNDING)
        yield replace(next(same, cell), further=True, seeds=cell.seeds)


def _points(
    sweep: Sweep, line: PlannedLine, points: Sequence[Point], key: str, *, vocab_size: int
) -> Iterator[PlannedCell]:
    """The cells that a line has among points listed one by one under a key of the grid."""
    named = {rung.name: rung for rung in sweep.grid.ladder} if sweep.grid.ladder else {}
    for n, point in enumerate(points):
        if point.lines is None or {line.name, line.family_name} & set(point.lines):
            model = build(line, _rung(sweep, (key, n), point, named), vocab_size=vocab_size, sweep=sweep)
            tokens = point.tokens or (point.budget or 0) / model.flops
            label = CellKey(line.name, f"{point.budget or point.tokens:g}", model.name)
            yield PlannedCell(label, line, model, point.budget, tokens, seeds=point.seeds or ())


def _grid_cells(sweep: Sweep, line: PlannedLine, *, vocab_size: int, centre: Law | None) -> Iterator[PlannedCell]:
    grid = sweep.grid
    if isinstance(grid, PointsGrid):
        yield from _points(sweep, line, grid.points, "points", vocab_size=vocab_size)
        return
    ladder = _models(sweep, line, grid.ladder, vocab_size)
    if isinstance(grid, TokensPerParamGrid):
        for multiple in grid.multiples:
            for model in ladder:
                key = CellKey(line.name, f"{multiple:g}x", model.name)
                yield PlannedCell(key, line, model, None, multiple * model.size)
        return
    for budget, models in _isoflop(grid, line, ladder, centre):
        for model in models:
            key = CellKey(line.name, f"{budget:g}", model.name)
            yield PlannedCell(key, line, model, budget, budget / model.flops)


def _models(sweep: Sweep, line: PlannedLine, ladder: Ladder, vocab_size: int) -> list[Model]:
    return sorted((build(line, r, vocab_size=vocab_size, sweep=sweep) for r in ladder), key=lambda model: model.size)


def _isoflop(
    grid: IsoFlopGrid, line: PlannedLine, ladder: list[Model], centre: Law | None
) -> Iterator[tuple[float, list[Model]]]:
    budgets, sizes = grid.budgets, grid.sizes_per_budget
    for name in (line.family_name, line.name):  # what is said of a line wins over what is said of its family
        if smaller := grid.lines.get(name):
            budgets, sizes = smaller.budgets or budgets, smaller.sizes_per_budget or sizes
    for budget in budgets:
        yield budget, ladder if sizes is None or centre is None else around(ladder, centre(budget), sizes, grid.span)


def around(ladder: list[Model], centre: float, sizes: int, span: float) -> list[Model]:
    """`sizes` models of a sorted ladder, evenly spread in log N over a factor `span` around a centre."""
    free = dict(enumerate(math.log(model.size) for model in ladder))
    chosen = []
    for k in range(min(sizes, len(ladder))):
        target = math.log(centre) + (k / (sizes - 1) - 0.5) * math.log(span) if sizes > 1 else math.log(centre)
        nearest = min(free, key=lambda n: abs(free[n] - target))
        chosen.append(nearest)
        del free[nearest]
    return [ladder[n] for n in sorted(chosen)]


def _rung(sweep: Sweep, place: tuple[str, int], point: Point, named: Mapping[str, Rung]) -> Rung:
    if isinstance(point.shape, ShapeSpec):
        return point.shape.rung()
    if point.shape not in named:
        allowed = ", ".join(named) if named else "an explicit shape, or name a `ladder` in the grid"
        raise PlanError("no such shape", where=sweep.where("grid", *place, "shape"), got=point.shape, allowed=allowed)
    return named[point.shape]


def size_of_grid(sweep: Sweep, line: PlannedLine) -> int:
    """How many cells `cells` will give, without making them."""
    grid, further = sweep.grid, len(sweep.grid.further or ())
    if isinstance(grid, PointsGrid):
        return len(grid.points) + further
    shapes = len(grid.ladder)
    if isinstance(grid, TokensPerParamGrid):
        return len(grid.multiples) * shapes + further
    return len(grid.budgets) * min(shapes, grid.sizes_per_budget or shapes) + further


def spent(cell: PlannedCell) -> float:
    """FLOPs the cell should spend, in the sweep's convention."""
    return cell.tokens * cell.model.flops


def nearest_centre(kept: list[PlannedCell], count: int, centre: Law | None) -> list[PlannedCell]:
    """The `count` cells of one line and group nearest its centre; nearest the middle of the sizes where there is
    none.
    """
    logs = sorted(math.log(cell.model.size) for cell in kept)
    budget = kept[0].budget
    middle = math.log(centre(budget)) if centre and budget else logs[len(logs) // 2]
    return sorted(kept, key=lambda cell: abs(math.log(cell.model.size) - middle))[:count]
