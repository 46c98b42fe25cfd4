"""The plan: every run of a sweep with every number resolved, and every cell that was dropped, with the reason.

A cell's tokens become whole batches; a budget that rounding misses by more than 1 % is dropped. Lists over
hyperparameters are tuned over in stages (`stages`); what a later stage will run is `pending` until the losses of the
earlier one are known.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scaling.checks import Check
from scaling.errors import PlanError
from scaling.rows import CellKey, DroppedCell
from scaling.sweeps.centres import centre_of
from scaling.sweeps.grid_cells import ROUNDING, Batches, PlannedCell, PlannedLine, cells, lines, size_of_grid
from scaling.sweeps.plan_checks import plan_checks
from scaling.sweeps.recipes import Recipe, Scale
from scaling.sweeps.resolve import PlannedRun, Resolver
from scaling.sweeps.schema import IsoFlopGrid, Sweep
from scaling.sweeps.stages import Stages
from scaling.sweeps.trunks import share, trunk_checks

Kept = tuple[dict[str, list[PlannedCell]], list[PlannedCell]]  # the cells of a grid by group, and the further ones
MAX_RUNS = 200_000  # ten times the largest published grid; a plan holds about 1 kB per run


@dataclass(frozen=True)
class Plan:
    """Every run of a sweep, line by line in the order of the file.

    `pending` are the runs of later stages: their cells and prices are known, their tuned settings are stand-ins.
    """

    sweep: Sweep
    flops_convention: str
    params_column: str
    runs: tuple[PlannedRun, ...]
    pending: tuple[PlannedRun, ...]
    dropped: tuple[DroppedCell, ...]
    checks: tuple[Check, ...]


def plan(
    sweep: Sweep,
    *,
    vocab_size: int,
    root: Path | None = None,
    corpus_tokens: float | None = None,
    losses: Mapping[str, float] | None = None,
) -> Plan:
    """Every run of the sweep.

    Args:
        vocab_size: entries of the tokenizer.
        root: what `results/<sweep>` in a centre is relative to.
        corpus_tokens: training tokens of the corpus, for the filter `max_epochs`; not filtered where unknown.
        losses: run id -> final loss of finished runs (infinite where diverged), which later tuning stages wait for.

    Raises:
        PlanError: with file and line: too many runs, an unknown shape or centre, a budget that no shape can spend.
    """
    collecting = gc.isenabled()
    gc.disable()  # many small objects without reference cycles: collecting garbage costs a sixth of the time
    try:
        return _Planner(sweep, vocab_size, root, corpus_tokens, losses or {}).plan()
    finally:
        if collecting:
            gc.enable()


class _Planner:
    """Walks the cells of every line and collects what was dropped."""

    def __init__(
        self,
        sweep: Sweep,
        vocab_size: int,
        root: Path | None,
        corpus_tokens: float | None,
        losses: Mapping[str, float],
    ) -> None:
        self.sweep, self.vocab_size, self.corpus_tokens, self.losses = sweep, vocab_size, corpus_tokens, losses
        self.lines, self.resolver = lines(sweep), Resolver(sweep)
        self.centres = {
            line.name: centre_of(sweep, family=line.family_name, line=line.name, root=root) for line in self.lines
        }
        self.dropped: list[DroppedCell] = []
        self.owner: dict[str, CellKey] = {}  # run id -> the first cell that asked for it
        self.more_seeds: dict[CellKey, tuple[int, ...]] = {}  # of `grid.further`

    def plan(self) -> Plan:
        """Keep what can be run, then run it stage by stage."""
        self._refuse_too_many()
        batches: Batches = {}
        kept = {line.name: self._kept(line, batches) for line in self.lines}
        self._refuse_unspendable(kept)
        runs: list[PlannedRun] = []
        pending: list[PlannedRun] = []
        checks: list[Check] = []
        for line in self.lines:
            centre = self.centres[line.name]
            own, further = kept[line.name]
            stages = Stages(self.resolver, line, own, further, batches, centre, self.more_seeds, self.losses)
            runs += self._own(stages.runs())
            pending += stages.pending
            checks += stages.checks
        return Plan(
            sweep=self.sweep,
            flops_convention=self.sweep.grid.flops,
            params_column=self.sweep.params_column,
            runs=share(runs),
            pending=share(pending),
            dropped=tuple(self.dropped),
            checks=(*plan_checks(self.sweep, [*runs, *pending]), *trunk_checks(self.sweep, runs), *checks),
        )

    def _own(self, runs: Iterator[PlannedRun]) -> Iterator[PlannedRun]:
        """Each run once: it belongs to the first cell that asks for it."""
        for planned in runs:
            first = self.owner.get(planned.run.id)
            if first is None:
                self.owner[planned.run.id] = planned.cell
                yield planned
            elif first != planned.cell:
                self.dropped.append(DroppedCell(planned.cell, f"the same run as one of {first}"))

    def _kept(self, line: PlannedLine, batches: Batches) -> Kept:
        """The cells of a line without the dropped ones; fills in the batch sizes of each."""
        groups: dict[str, list[PlannedCell]] = {}
        further: list[PlannedCell] = []
        for cell in cells(self.sweep, line, vocab_size=self.vocab_size, centre=self.centres[line.name]):
            key = cell.key
            if cell.seeds:
                self.more_seeds[key] = (*self.more_seeds.get(key, ()), *cell.seeds)
            if key in batches and cell.seeds:
                continue
            if key in batches:
                self.dropped.append(DroppedCell(key, "the cell is asked for twice"))
                continue
            batches[key] = []
            for batch in self._batch_sizes(cell):
                steps = round(cell.tokens / batch)
                if reason := self._reason(cell, batch, steps):
                    self.dropped.append(DroppedCell(key, reason))
                else:
                    batches[key].append((batch, steps))
            if batches[key]:
                (further if cell.further else groups.setdefault(key.group, [])).append(cell)
        return groups, further

    def _batch_sizes(self, cell: PlannedCell) -> tuple[int, ...]:
        asked = self.sweep.training.batch_tokens
        if isinstance(asked, Recipe):
            return (asked.batch_tokens(Scale(cell.tokens, self.sweep.training.sequence_length)),)
        return tuple(asked)

    def _reason(self, cell: PlannedCell, batch: int, steps: int) -> str | None:
        """Why a cell cannot be run at a batch size; None where it can."""
        filters, size = self.sweep.grid.filters, cell.model.size
        tokens = steps * batch
        least, most = filters.tokens_per_param
        if steps == 0 or abs(tokens / cell.tokens - 1) > ROUNDING:
            return f"{cell.tokens:.4g} tokens are not within 1 % of whole batches of {batch}"
        if not least <= tokens / size <= most:
            return f"{tokens / size:.3g} tokens per parameter, outside {least:g} to {most:g}"
        if filters.min_steps and steps < filters.min_steps:
            return f"{steps} steps, fewer than min_steps {filters.min_steps}"
        if filters.max_steps and steps > filters.max_steps:
            return f"{steps} steps, more than max_steps {filters.max_steps}"
        if filters.min_params and size < filters.min_params:
            return f"{size} parameters, fewer than min_params {filters.min_params:g}"
        if filters.max_params and size > filters.max_params:
            return f"{size} parameters, more than max_params {filters.max_params:g}"
        if filters.max_epochs and self.corpus_tokens and tokens > filters.max_epochs * self.corpus_tokens:
            return f"{tokens / self.corpus_tokens:.2f} epochs, more than max_epochs {filters.max_epochs:g}"
        return None

    def _refuse_too_many(self) -> None:
        training = self.sweep.training
        batches = 1 if isinstance(training.batch_tokens, Recipe) else len(training.batch_tokens)
        total = 0
        for line in self.lines:
            settings = batches
            for key, values in self.sweep.tuned(line.family_name).items():
                settings *= 1 if key == "batch_tokens" else len(values)
            total += size_of_grid(self.sweep, line) * settings * len(training.seeds)
        if total > MAX_RUNS:
            raise PlanError(
                f"the sweep asks for about {total:,} runs",
                where=self.sweep.where("grid"),
                allowed=f"at most {MAX_RUNS:,}",
            )

    def _refuse_unspendable(self, kept: Mapping[str, Kept]) -> None:
        """An error for the first budget that no shape of any line can spend, and for a plan without runs."""
        first = {d.cell.group: d for d in reversed(self.dropped)}
        spendable = {group for groups, _ in kept.values() for group in groups}
        if isinstance(self.sweep.grid, IsoFlopGrid):
            for n, budget in enumerate(self.sweep.grid.budgets):
                if f"{budget:g}" not in spendable:
                    self._refuse_budget(("grid", "budgets", n), first.get(f"{budget:g}"))
        if not spendable:
            self._refuse_budget(("grid",), next(iter(self.dropped), None))

    def _refuse_budget(self, place: tuple[str | int, ...], example: DroppedCell | None) -> None:
        raise PlanError(
            "nothing can be run here: every cell is dropped",
            where=self.sweep.where(*place),
            got=f"{example.cell}: {example.reason}" if example else None,
            hint="change the budget, the ladder, the batch or the filters",
        )
