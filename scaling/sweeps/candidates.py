"""Cells that may be added to a sweep: those for which its recipe is known to hold.

A recipe (learning rate, batch rule, warm-up) was tried on the sweep's own runs, so a further cell has to look like
them: as many steps as the filter `min_steps` asks (`few_steps` where it asks nothing), tokens per parameter and a batch
such as the runs of the sweep have, at most ten times the compute of the largest, and not less than the smallest. New
cells lie at the sweep's own budgets and at further ones above, in its own ratio; cells there are may get more seeds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Literal

from scaling import checks
from scaling.errors import PlanError
from scaling.files import JsonObject
from scaling.rows import CellKey
from scaling.spec import YamlDocument
from scaling.sweeps.grids import Plan, plan
from scaling.sweeps.resolve import PlannedRun
from scaling.sweeps.schema import IsoFlopGrid, Sweep, read_sweep

MOST_SEEDS = 7  # further seeds of one cell that are offered (assumption of what is in reach)
_REACH = 10.0  # times the largest run: a rate and a batch tuned at one scale hold about that far (assumption)
_BATCH_REACH = 2.0  # times the largest batch of the sweep's own runs (assumption)
SLACK = 1.02  # relative: rounding to whole batches, and budgets a little above ten times
_LEVELS = 8  # of compute, where the grid has no budgets


@dataclass(frozen=True, eq=False)
class Candidate:
    """One cell that may be added, or one more seed of a cell there is, with every run that it takes.

    Attributes:
        kind: `cell` or `seed`.
        point: the entry of `grid.further` that asks for it.
        runs: one, or several where settings are tuned over in every cell.
        compute: of all its runs, FLOPs in the convention of the sweep.
        budget: nominal, FLOPs.
    """

    kind: Literal["cell", "seed"]
    key: CellKey
    point: JsonObject
    runs: tuple[PlannedRun, ...]
    compute: float
    budget: float | None

    @property
    def line(self) -> str:
        """The line of the cell."""
        return self.key.line

    @property
    def points(self) -> list[PlannedRun]:
        """The runs that become points: of the settings tried with one seed, the first stands for the best."""
        return list({planned.run.seed: planned for planned in reversed(self.runs)}.values())


@dataclass(frozen=True)
class Domain:
    """What a run may look like for the recipe of a sweep to be valid, from the sweep's own runs."""

    min_steps: int
    tokens_per_param: tuple[float, float]
    batch_tokens: tuple[int, float]

    def __contains__(self, planned: PlannedRun) -> bool:
        """Whether a run is inside; N is the matrices' own, whatever the column of the fit."""
        run = planned.run
        low, high = self.tokens_per_param
        ratio = run.tokens / planned.counts.params_matmul
        return (
            run.steps >= self.min_steps
            and low / SLACK <= ratio <= high * SLACK
            and self.batch_tokens[0] <= run.batch_tokens <= self.batch_tokens[1]
        )

    def __str__(self) -> str:
        """In words, for a message."""
        return (
            f"at least {self.min_steps} steps, {self.tokens_per_param[0]:.3g} to {self.tokens_per_param[1]:.3g} tokens "
            f"per parameter, batches of {self.batch_tokens[0]:,} to {self.batch_tokens[1]:,.0f} tokens"
        )


def domain_of(own: Plan) -> Domain:
    """The domain in which the recipe of a planned sweep is valid."""
    runs = [*own.runs, *own.pending]
    ratios = [planned.run.tokens / planned.counts.params_matmul for planned in runs]
    batches = [planned.run.batch_tokens for planned in runs]
    least = own.sweep.grid.filters.min_steps or int(checks.MIN_STEPS.value)
    return Domain(least, (min(ratios), max(ratios)), (min(batches), _BATCH_REACH * max(batches)))


def candidates(own: Plan, *, vocab_size: int, root: Path | None = None) -> list[Candidate]:
    """Every cell that may be added to a planned sweep, and every further seed of its cells.

    Args:
        own: the plan of the sweep as it is.
        root: what `results/<sweep>` in a centre is relative to.

    Raises:
        PlanError: the sweep has no ladder, or the domain of its recipe has no further run.
    """
    sweep, domain = own.sweep, domain_of(own)
    if sweep.grid.ladder is None:
        raise PlanError("no ladder to take shapes from", where=sweep.where("grid"), hint="name a `ladder` in the grid")
    spent = {planned.run.id: _compute(own, planned) for planned in [*own.runs, *own.pending]}
    unit = "budget" if isinstance(sweep.grid, IsoFlopGrid) else "tokens"
    offered = [*_new_points(own, list(spent.values())), *_seed_points(own, domain, unit)]
    larger = plan(extended(sweep, offered), vocab_size=vocab_size, root=root)
    inside = [one for one in _gathered(larger, set(spent)) if all(planned in domain for planned in one.runs)]
    if not inside:
        what = "no run can be added for which the recipe of this sweep is valid"
        hint = "grid.filters.min_steps   says how many steps are enough"
        raise PlanError(what, where=str(sweep.path), allowed=f"runs with {domain}", hint=hint)
    return inside


def extended(sweep: Sweep, points: list[JsonObject], name: str | None = None) -> Sweep:
    """The sweep with further points, under its own name or another one."""
    return read_sweep(YamlDocument(sweep.path, values_of(sweep, points, name), {}))


def values_of(sweep: Sweep, points: list[JsonObject], name: str | None = None) -> JsonObject:
    """What the file of a sweep says, with further points."""
    values = copy.deepcopy(sweep.written)
    further = [*(values["grid"].get("further") or ()), *points]
    values["grid"] = values["grid"] | ({"further": further} if further else {})
    return values | {"sweep": name or sweep.name}


def _compute(own: Plan, planned: PlannedRun) -> float:
    return planned.flops if own.flops_convention == "exact" else planned.flops_6nd


def _new_points(own: Plan, spent: list[float]) -> Iterator[JsonObject]:
    """Every shape of the ladder at every level of compute, for all lines."""
    ladder = own.sweep.grid.ladder
    assert ladder is not None
    for level in _levels(own, spent):
        for rung in ladder:
            yield {"shape": rung.name, "budget": level}


def _levels(own: Plan, spent: list[float]) -> list[float]:
    """Budgets of the grid and those above; levels of a geometric scale where it has none."""
    grid = own.sweep.grid
    if isinstance(grid, IsoFlopGrid):
        budgets = sorted({*grid.budgets, *(point.budget for point in grid.further or () if point.budget)})
        ratio = median(b / a for a, b in pairwise(budgets)) if len(budgets) > 1 else math.sqrt(_REACH)
        count = math.floor(math.log(_REACH * SLACK) / math.log(ratio))
        return [*budgets, *(float(f"{budgets[-1] * ratio**k:.3g}") for k in range(1, count + 1))]
    low, high = math.log(min(spent)), math.log(_REACH * max(spent))
    return [math.exp(low + k * (high - low) / (_LEVELS - 1)) for k in range(_LEVELS)]


def _seed_points(own: Plan, domain: Domain, unit: str) -> Iterator[JsonObject]:
    """More seeds of every cell inside the domain whose shape the ladder has."""
    names = {rung.name for rung in own.sweep.grid.ladder or ()}
    seeds: dict[CellKey, set[int]] = {}
    first: dict[CellKey, PlannedRun] = {}
    for planned in [*own.runs, *own.pending]:
        seeds.setdefault(planned.cell, set()).add(planned.run.seed)
        first.setdefault(planned.cell, planned)
    for key, planned in first.items():
        if planned in domain and key.shape in names:
            start = max(seeds[key]) + 1
            spends = {unit: planned.budget if unit == "budget" else planned.run.tokens}
            more = list(range(start, start + MOST_SEEDS))
            yield {"shape": key.shape, **spends, "lines": [key.line], "seeds": more}


def _gathered(larger: Plan, known: set[str]) -> Iterator[Candidate]:
    """The new runs of a larger plan: those of a new cell together, those of a cell there is seed by seed."""
    every = [*larger.runs, *larger.pending]
    own = {planned.cell for planned in every if planned.run.id in known}
    added: dict[tuple[CellKey, int | None], list[PlannedRun]] = {}
    for planned in every:
        if planned.run.id not in known:
            seed = planned.run.seed if planned.cell in own else None
            added.setdefault((planned.cell, seed), []).append(planned)
    unit = "budget" if isinstance(larger.sweep.grid, IsoFlopGrid) else "tokens"
    for (key, seed), runs in added.items():
        compute = math.fsum(_compute(larger, planned) for planned in runs)
        spends = runs[0].budget if unit == "budget" else runs[0].run.tokens
        point: JsonObject = {"shape": key.shape, unit: spends, "lines": [key.line]}
        if seed is not None:
            point["seeds"] = [seed]
        yield Candidate("cell" if seed is None else "seed", key, point, tuple(runs), compute, runs[0].budget)
