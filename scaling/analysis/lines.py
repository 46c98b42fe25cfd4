"""One line of a study: its points, its law, its frontier and its costs.

`laws.study_line` does the numerics. Here the points are made from cells, FLOPs per token from the shapes, and a line
whose points determine no parametric law still has its isoFLOP minima, with the reason beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from scaling.analysis.data_points import Cell, trials_of
from scaling.analysis.settings import Settings
from scaling.analysis.table_reader import POINT_COLUMNS
from scaling.analysis.training_costs import PerToken, axes, models_of_rows
from scaling.errors import FitError
from scaling.inference.curve import Curve
from scaling.laws.determination import undetermined_optimum
from scaling.laws.extrapolation import Extrapolation, extrapolate
from scaling.laws.frontier import Frontier, frontier
from scaling.laws.isoflop import IsoFlop, isoflop
from scaling.laws.line_study import LineStudy, study_line
from scaling.laws.optima import OptimaLaws, are_optima, optima_laws
from scaling.laws.points import Array, Points
from scaling.laws.seed_noise import SeedNoise
from scaling.laws.tuning_bias import Selection, Trials, choose, selection_draws
from scaling.rows import RunRow

_REACH = 100.0  # sizes searched beyond those trained, each way
PARAMS_COLUMNS = ("params_total", "params_non_embedding", "params_matmul")


@dataclass(frozen=True, eq=False)
class Line:
    """One (family, rank ratio) with its data and its law.

    Args:
        order: place among the lines; gives the colour.
        choices: what was kept of each tuned cell; empty where none was tuned.
        law: None where the points determine none; `refused` then says why.
        isoflop: approach 2, None without budgets.
        curve: the models of the line by size; None in a table without shapes.
        costs: per trained token at N, by axis (`exact`, `6ND`, `device_seconds`).
        axis: the one of `costs` that C counts.
        optima: power laws through the points, where each is the optimum of its compute and no law is determined.
    """

    name: str
    family: str | None
    rank_ratio: float | None
    order: int
    cells: tuple[Cell, ...]
    points: Points = field(repr=False)
    choices: tuple[Selection, ...]
    law: LineStudy | None
    refused: str | None
    isoflop: IsoFlop | None
    curve: Curve | None
    costs: Mapping[str, PerToken]
    axis: str
    optima: OptimaLaws | None = None

    @cached_property
    def frontier(self) -> Frontier | None:
        """Compute-optimal N, D and loss at the study's own counting, around the data; None without a law."""
        return self.frontier_on(self.axis)

    def frontier_on(self, axis: str, compute: float = 0.0) -> Frontier | None:
        """The frontier where `axis` is what is spent, searched far enough for `compute` FLOPs."""
        if self.law is None or "N" not in self.law.fit.exponents:
            return None
        per_token = None if self.curve is None and axis == "6ND" else self.costs[axis]
        sizes = self.points.params
        # N_opt grows no faster than C.
        reach = max(_REACH, compute / float(self.points.compute.max()))
        span = (float(sizes.min()) / _REACH, float(sizes.max()) * reach)
        return frontier(self.law.fit, draws=self.law.draws, flops_per_token=per_token, params_range=span)

    @property
    def undetermined(self) -> str | None:
        """Why no exponent and no compute-optimal model of the line's law is an answer; None where they are."""
        why = undetermined_optimum(self.law.fit, self.law.draws) if self.law else None
        return None if why is None else why.reason

    @cached_property
    def extrapolation(self) -> Extrapolation | None:
        """Stacked forms calibrated on the line's own hold-outs; None where its points determine none of them."""
        per_token = None if self.curve is None else self.costs[self.axis]
        noise = self.law.noise.sigma_log if self.law and self.law.noise else None
        points = self.law.fit.points if self.law else self.points
        try:
            return extrapolate(points, seed_noise=noise, flops_per_token=per_token)
        except FitError:
            return None

    @property
    def budgets(self) -> list[float]:
        """Compute budgets, ascending."""
        return sorted({cell.budget for cell in self.cells if cell.budget is not None})


def make_line(
    name: str,
    cells: Sequence[Cell],
    *,
    order: int,
    settings: Settings,
    sequence_length: int | None,
    noise: SeedNoise | None,
) -> Line:
    """Fits one line every way its cells allow; `noise` is that of all lines."""
    points = points_of(cells, settings.params_column)
    models = models_of_rows([cell.row for cell in cells])
    curve = (
        Curve(models, params=settings.params_column) if models and settings.params_column in PARAMS_COLUMNS else None
    )
    costs = axes(curve, cells, sequence_length=sequence_length)
    axis = settings.convention if settings.convention in costs else "6ND"
    trials, choices = tuned_trials(cells, noise)
    law, refused = None, None
    seed = line_seed(name, settings.seed)
    try:
        law = study_line(
            points,
            law=settings.line_law,
            objective=settings.objective,
            delta=settings.delta,
            draws=settings.bootstrap,
            seed=seed,
            kind="residuals" if cells[0].row.cell else None,  # a grid of ours is designed, with budgets or not
            curve=settings.curve,
            fixed=settings.fixed,
            tied=settings.tied,
            drop_highest=settings.drop_highest,
            compute=settings.predict,
            conventions=_conventions(cells, settings.params_column),
            flops_per_token=None if curve is None else costs[axis],
            trials=trials,
            sigma=noise.sigma if noise else None,
        )
    except FitError as error:
        refused = error.what + (f" ({error.got})" if error.got else "")
    optima = None
    if (law is None or undetermined_optimum(law.fit)) and are_optima(points):
        optima = optima_laws(points)
    minima = law.isoflop if law else _minima(points, settings, seed, noise, trials)
    first = cells[0].row
    family = first.family
    return Line(
        name,
        family,
        first.rank_ratio,
        order,
        tuple(cells),
        points,
        choices,
        law,
        refused,
        None if optima else minima,
        curve,
        costs,
        axis,
        optima,
    )


def points_of(cells: Sequence[Cell], params_column: str, column: str | None = None) -> Points:
    """One point per run of each cell; `column` takes N from another column of the table."""
    runs = [(cell, row) for cell in cells for row in cell.rows]
    every = {name: [getattr(cell, name) for cell, _ in runs] for name in ("flops", "budget")}
    seeds = [row.seed for _, row in runs]
    trunks = [row.trunk for _, row in runs]
    return Points(
        params=np.array([cell.params if column is None else row.number(column) for cell, row in runs]),
        tokens=np.array([cell.tokens for cell, _ in runs]),
        loss=np.array([loss for cell in cells for loss in cell.losses]),
        line=np.array([cell.line for cell, _ in runs]),
        cell=np.array([cell.label for cell, _ in runs]),
        seed=None if None in seeds else np.array([str(seed) for seed in seeds]),
        trunk=np.array([trunk or f"run {n}" for n, trunk in enumerate(trunks)]) if any(trunks) else None,
        params_column=column or params_column,
        **{name: None if None in values else np.array(values) for name, values in every.items()},
        **{name: _whole_column(name, [row for _, row in runs]) for name in POINT_COLUMNS},
    )


def _conventions(cells: Sequence[Cell], params_column: str) -> dict[str, Points]:
    """The same points with the other parameter counts, where the table has them."""
    if params_column not in PARAMS_COLUMNS:
        return {}
    others = [name for name in PARAMS_COLUMNS if name != params_column and all(cell.row.number(name) for cell in cells)]
    return {name: points_of(cells, params_column, name) for name in others}


def _whole_column(name: str, rows: Sequence[RunRow]) -> Array | None:
    """A column that all rows have, None where none has.

    Raises:
        FitError: some rows have it.
    """
    values = [getattr(row, name, None) for row in rows]  # a table of ours has none of these
    missing = values.count(None)
    if 0 < missing < len(values):
        raise FitError(f"column {name} is empty in some rows", got=f"{missing} of {len(values)}", allowed="all or none")
    return None if missing else np.array(values, dtype=float)


def tuned_trials(cells: Sequence[Cell], noise: SeedNoise | None) -> tuple[Trials | None, tuple[Selection, ...]]:
    """All runs of some cells and what was chosen in the tuned ones; None where none was tuned."""
    if all(cell.settings == 1 for cell in cells):
        return None, ()
    trials = trials_of([(cell.label, cell.trials) for cell in cells])
    choices = choose(trials, sigma=noise.sigma if noise else None)[1]
    return trials, tuple(choice for choice in choices if choice.settings > 1)


def _minima(
    points: Points, settings: Settings, seed: int, noise: SeedNoise | None, trials: Trials | None
) -> IsoFlop | None:
    """Approach 2 of a line without a law."""
    draws = settings.bootstrap
    if points.budget is None:
        return None
    deviations = None
    if trials is not None and noise is not None and draws:
        freedom = len(points) - len(np.unique(points.budget)) * 3  # a parabola for each budget
        deviations = selection_draws(
            trials, points, sigma=noise.sigma, level=noise.sigma_log, freedom=freedom, draws=draws, seed=seed
        )
    level = noise.sigma_log if noise else None
    return isoflop(points, curve=settings.curve, draws=draws, seed=seed, noise=level, deviations=deviations)


def line_seed(name: str, seed: int) -> int:
    """A seed of its own for every line, so that the draws of two lines are independent, whatever their order."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")
