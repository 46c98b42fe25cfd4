"""Tuning in stages: which settings of a cell are run, and what waits for which losses.

Without a list over a hyperparameter a cell has one setting. With lists, `tune: {cells: all}` (the default) runs every
setting in every cell. `tune: {cells: 2}` has stages:

| stage | cells | settings |
|---|---|---|
| tune | the `cells` nearest the centre at the smallest budget | all |
| grid | all others | the winner of `tune`: lowest loss, averaged over its cells and seeds |
| recheck | the one nearest the centre at the largest budget | the winner and its neighbours in each list |
| confirm | every tuned cell | its winner, with fresh seeds |

The grid's own cells alone decide what is tuned, rechecked and replicated; cells of `grid.further` join the others.
A stage whose losses are not known yet is `pending`: priced with the first setting as a stand-in. A diverged run counts
as an infinite loss. The checks say where a winner lies at the edge of its list, and where the winner of the smallest
budget is beaten at the largest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaling import checks
from scaling.checks import Check
from scaling.rows import CellKey
from scaling.sweeps.centres import Law
from scaling.sweeps.grid_cells import Batches, PlannedCell, PlannedLine, nearest_centre, spent
from scaling.sweeps.resolve import PlannedRun, Resolver

Key = tuple[tuple[str, Any], ...]  # a setting as (hyperparameter, value) pairs, the batch among them where it is tuned


@dataclass(frozen=True)
class Option:
    """One setting of one cell."""

    key: Key
    batch: int
    steps: int


class Stages:
    """The runs of one line. `runs()` fills `pending` and `checks` on its way."""

    def __init__(
        self,
        resolver: Resolver,
        line: PlannedLine,
        groups: Mapping[str, list[PlannedCell]],
        further: list[PlannedCell],
        batches: Batches,
        centre: Law | None,
        more_seeds: Mapping[CellKey, tuple[int, ...]],
        losses: Mapping[str, float],
    ) -> None:
        self.resolver, self.line, self.batches, self.centre, self.losses = resolver, line, batches, centre, losses
        self.training, self.tune = resolver.sweep.training, resolver.sweep.tune
        self.tuned = resolver.sweep.tuned(line.family_name)
        self.groups = sorted(groups.values(), key=lambda group: spent(group[0]))
        self.cells = [*(cell for group in groups.values() for cell in group), *further]
        self.more_seeds = more_seeds
        self.pending: list[PlannedRun] = []
        self.checks: list[Check] = []

    def runs(self) -> Iterator[PlannedRun]:
        """Every run whose setting is known."""
        if not self.cells:
            return
        if self.groups and self.tuned and self.tune is not None and self.tune.cells != "all":
            yield from self._staged(nearest_centre(self.groups[0], self.tune.cells, self.centre))
            return
        seeds, edge = self._seeds(), 0
        for cell in self.cells:
            runs = self._all(cell, "grid", seeds.get(cell.key, self.training.seeds))
            yield from itertools.chain.from_iterable(runs.values())
            if self.tuned:
                winner = self._winner([runs])
                edge += winner is not None and bool(self._at_edge(winner))
                yield from self._confirm([cell], winner)
        if edge:
            message = (
                f"{self.line.name}: in {edge} of {len(self.cells)} cells the best setting is at the edge of its list."
            )
            self.checks.append(checks.RATE_AT_EDGE(message))

    def _staged(self, tuned_cells: list[PlannedCell]) -> Iterator[PlannedRun]:
        runs = [self._all(cell, "tune", self.training.seeds) for cell in tuned_cells]
        for by_key in runs:
            yield from itertools.chain.from_iterable(by_key.values())
        winner, seeds = self._winner(runs), self._seeds()
        for cell in self.cells:
            if cell not in tuned_cells or cell.key in seeds:
                yield from self._at(cell, winner, "grid", seeds.get(cell.key, self.training.seeds))
        yield from self._confirm(tuned_cells, winner)
        assert self.tune is not None
        if self.tune.recheck:
            yield from self._recheck(winner)
        if winner is not None and (keys := self._at_edge(winner)):
            message = f"{self.line.name}: the best {' and '.join(keys)} lies at the edge of the list tuned over."
            self.checks.append(checks.RATE_AT_EDGE(message))

    def _recheck(self, winner: Key | None) -> Iterator[PlannedRun]:
        cell = nearest_centre(self.groups[-1], 1, self.centre)[0]
        if winner is None:
            stand_ins = 1 + 2 * len(self.tuned)
            for option in self._options(cell)[:stand_ins]:
                self.pending += self._make(cell, option, "recheck", self.training.seeds)
            return
        runs = {key: list(self._at(cell, key, "recheck", self.training.seeds)) for key in self._near(winner)}
        yield from itertools.chain.from_iterable(runs.values())
        best = self._winner([runs])
        if best is not None and best != winner:
            said = ", ".join(f"{key} {value:g}" for key, value in best)
            message = f"{self.line.name}: the setting tuned at the smallest budget is beaten at the largest by {said}."
            self.checks.append(checks.RATE_DOES_NOT_TRANSFER(message))

    def _confirm(self, cells: Iterable[PlannedCell], winner: Key | None) -> Iterator[PlannedRun]:
        count = self.tune.confirm if self.tune else 0
        first = max(self.training.seeds) + 1
        for cell in cells if count else ():
            yield from self._at(cell, winner, "confirm", tuple(range(first, first + count)))

    def _all(self, cell: PlannedCell, stage: str, seeds: Sequence[int]) -> dict[Key, list[PlannedRun]]:
        return {option.key: list(self._make(cell, option, stage, seeds)) for option in self._options(cell)}

    def _at(self, cell: PlannedCell, key: Key | None, stage: str, seeds: Sequence[int]) -> Iterator[PlannedRun]:
        """The runs of a cell at one setting; pending where the setting is not known yet."""
        options = self._options(cell)
        if key is None:
            self.pending += self._make(cell, options[0], stage, seeds)
            return
        for option in options:
            if option.key == key:
                yield from self._make(cell, option, stage, seeds)

    def _make(self, cell: PlannedCell, option: Option, stage: str, seeds: Sequence[int]) -> Iterator[PlannedRun]:
        setting = {key: value for key, value in option.key if key != "batch_tokens"}
        return self.resolver.runs(cell, setting, batch=option.batch, steps=option.steps, seeds=seeds, stage=stage)

    def _options(self, cell: PlannedCell) -> list[Option]:
        keys = [key for key in self.tuned if key != "batch_tokens"]
        options = []
        for batch, steps in self.batches[cell.key]:
            own = (("batch_tokens", batch),) if "batch_tokens" in self.tuned else ()
            for values in itertools.product(*(self.tuned[key] for key in keys)):
                options.append(Option((*zip(keys, values, strict=True), *own), batch, steps))
        return options

    def _winner(self, runs_of: Sequence[Mapping[Key, list[PlannedRun]]]) -> Key | None:
        """The setting with the lowest mean loss over cells and seeds; None while a loss is missing."""
        losses: dict[Key, list[float]] = {}
        for by_key in runs_of:
            for key, runs in by_key.items():
                losses.setdefault(key, []).extend(self.losses.get(planned.run.id, math.nan) for planned in runs)
        if any(math.isnan(loss) for values in losses.values() for loss in values):
            return None
        most = max(len(values) for values in losses.values())  # a setting that a cell had to drop cannot win
        return min((key for key in losses if len(losses[key]) == most), key=lambda key: math.fsum(losses[key]))

    def _near(self, winner: Key) -> list[Key]:
        """The winner and its neighbours, one hyperparameter at a time."""
        near = [winner]
        for place, (name, value) in enumerate(winner):
            values = sorted(self.tuned[name])
            at = values.index(value)
            for other in (at - 1, at + 1):
                if 0 <= other < len(values):
                    near.append((*winner[:place], (name, values[other]), *winner[place + 1 :]))
        return near

    def _at_edge(self, winner: Key) -> list[str]:
        """Hyperparameters whose best value is the first or last of its list; one of two values always is."""
        lists = {name: values for name, values in self.tuned.items() if len(values) > 2}
        return [name for name, value in winner if name in lists and value in (min(lists[name]), max(lists[name]))]

    def _seeds(self) -> dict[CellKey, tuple[int, ...]]:
        """The seeds of every cell that has more than the others."""
        result = self._replicated() if self.groups else {}
        for cell in self.cells:
            if cell.key in self.more_seeds:
                seeds = (*result.get(cell.key, self.training.seeds), *self.more_seeds[cell.key])
                result[cell.key] = tuple(dict.fromkeys(seeds))
        return result

    def _replicated(self) -> dict[CellKey, tuple[int, ...]]:
        """Those of the replicated cells."""
        asked, seeds = self.training.replicates, self.training.seeds
        if asked is None:
            return {}
        if isinstance(asked.budget, str):
            group = self.groups[0 if asked.budget == "smallest" else -1]
        else:
            group = next((g for g in self.groups if g[0].budget == asked.budget), [])
        first = max(seeds) + 1
        more = (*seeds, *range(first, first + asked.seeds - len(seeds)))
        return {cell.key: more for cell in nearest_centre(group, asked.sizes, self.centre)} if group else {}
