"""The plan: every run of a sweep with every number resolved, and every cell that was dropped, with the reason.

A cell's tokens become whole batches; a budget that rounding misses by more than 1 % is dropped. Recipes are resolved
here, so that their numbers are seen. Lists over hyperparameters are crossed within a cell and make `tune` runs;
seeds and replicates repeat a setting.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scaling.check import Check
from scaling.errors import PlanError
from scaling.run import DataRef, Initialisation, Optimizer, Run, Schedule, Shape
from scaling.sweeps import counting
from scaling.sweeps.cells import Cell, Line, cells, lines, nearest_centre, size_of_grid, spent
from scaling.sweeps.centres import Law, centre_of
from scaling.sweeps.checks import plan_checks
from scaling.sweeps.counting import Counts
from scaling.sweeps.optimizers import CONSTANTS, constants
from scaling.sweeps.recipes import Recipe, Scale
from scaling.sweeps.schema import Family, IsoFlop, Sweep

MAX_RUNS = 200_000  # ten times the largest published grid; a plan holds about 2 kB per run
ROUNDING = 0.01

Setting = Mapping[str, Any]  # hyperparameter -> number, for those the sweep varies


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run and what the plan knows of it. FLOPs are of the whole training; `flops` is the exact count."""

    run: Run
    family: str
    line: str
    rank_ratio: float | None
    budget: float | None
    cell: str
    counts: Counts
    flops: float
    flops_6nd: float
    optimizer_flops: float  # arithmetic of the update rule, never part of C
    memory_bytes: float  # training with one sequence at a time
    stage: str = "grid"

    def row(self, hours: float | None = None) -> dict[str, Any]:
        """The run as `plan --json` lists it."""
        run = self.run
        shape = {"layers", "width", "heads", "ff_width", "vocab_size", "kv_heads", "tied"}
        return {
            "id": run.id,
            "family": self.family,
            "line": self.line,
            "parameterization": run.parameterization,
            "optimizer": run.optimizer.name,
            "rank_ratio": self.rank_ratio,
            "shape": {key: getattr(run.shape, key) for key in sorted(shape)},
            "params_total": self.counts.params_total,
            "params_non_embedding": self.counts.params_non_embedding,
            "params_matmul": self.counts.params_matmul,
            "tokens": run.tokens,
            "steps": run.steps,
            "batch_tokens": run.batch_tokens,
            "sequence_length": run.sequence_length,
            "budget": self.budget,
            "flops": self.flops,
            "flops_6nd": self.flops_6nd,
            "optimizer_flops": self.optimizer_flops,
            "memory_bytes": self.memory_bytes,
            "lr": run.optimizer.lr,
            "other_lr": run.optimizer.other_lr,
            "seed": run.seed,
            "cell": self.cell,
            "stage": self.stage,
            "hours": hours,
        }


@dataclass(frozen=True, slots=True)
class Dropped:
    """A cell that is not run, and why."""

    cell: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """Every run of a sweep, ordered as the file asks for them."""

    sweep: Sweep
    flops_convention: str
    params_column: str
    runs: tuple[PlannedRun, ...]
    dropped: tuple[Dropped, ...]
    checks: tuple[Check, ...]


def plan(
    sweep: Sweep,
    *,
    vocab_size: int,
    root: Path | None = None,
    corpus_tokens: float | None = None,
) -> Plan:
    """Every run of the sweep.

    Args:
        vocab_size: entries of the tokenizer.
        root: what `results/<sweep>` in a centre is relative to.
        corpus_tokens: training tokens of the corpus, for the filter `max_epochs`; not filtered where unknown.

    Raises:
        PlanError: with file and line: too many runs, an unknown shape or centre, a budget that no shape can spend.
    """
    planner = _Planner(sweep, vocab_size, root, corpus_tokens)
    runs = tuple(planner.runs())
    checks = plan_checks(sweep, runs)
    return Plan(sweep, sweep.grid.flops, sweep.params_column, runs, tuple(planner.dropped), checks)


class _Planner:
    """Walks the cells of every line and collects what was dropped."""

    def __init__(self, sweep: Sweep, vocab_size: int, root: Path | None, corpus_tokens: float | None) -> None:
        self.sweep, self.vocab_size, self.corpus_tokens = sweep, vocab_size, corpus_tokens
        self.lines, self.resolver = lines(sweep), Resolver(sweep)
        self.centres = {
            line.name: centre_of(sweep, family=line.family_name, line=line.name, root=root) for line in self.lines
        }
        self.dropped: list[Dropped] = []
        self.batches: dict[str, list[tuple[int, int]]] = {}  # cell name -> (batch tokens, steps)

    def runs(self) -> Iterator[PlannedRun]:
        """Every run; a run that two cells ask for belongs to the first."""
        self._refuse_too_many()
        kept = {line.name: self._kept(line) for line in self.lines}
        self._refuse_unspendable(kept)
        owner: dict[str, str] = {}
        for line in self.lines:
            seeds = self._seeds(kept[line.name], self.centres[line.name])
            for cell in itertools.chain.from_iterable(kept[line.name].values()):
                for planned in self._cell_runs(cell, seeds.get(cell.name, self.sweep.training.seeds)):
                    first = owner.setdefault(planned.run.id, planned.cell)
                    if first == planned.cell:
                        yield planned
                    else:
                        self.dropped.append(Dropped(planned.cell, f"the same run as one of {first}"))

    def _kept(self, line: Line) -> dict[str, list[Cell]]:
        """The cells of a line by group, without the dropped ones."""
        groups: dict[str, list[Cell]] = {}
        for cell in cells(self.sweep, line, vocab_size=self.vocab_size, centre=self.centres[line.name]):
            if cell.name in self.batches:
                self.dropped.append(Dropped(cell.name, "the cell is asked for twice"))
                continue
            self.batches[cell.name] = []
            for batch in self._batch_sizes(cell):
                steps = round(cell.tokens / batch)
                if reason := self._reason(cell, batch, steps):
                    self.dropped.append(Dropped(cell.name, reason))
                else:
                    self.batches[cell.name].append((batch, steps))
            if self.batches[cell.name]:
                groups.setdefault(cell.group, []).append(cell)
        return groups

    def _batch_sizes(self, cell: Cell) -> tuple[int, ...]:
        asked = self.sweep.training.batch_tokens
        if isinstance(asked, Recipe):
            return (asked.batch_tokens(Scale(cell.tokens, self.sweep.training.sequence_length)),)
        return tuple(asked)

    def _reason(self, cell: Cell, batch: int, steps: int) -> str | None:
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

    def _seeds(self, kept: Mapping[str, list[Cell]], centre: Law | None) -> dict[str, tuple[int, ...]]:
        """More seeds for the replicated cells of one line."""
        asked, seeds = self.sweep.training.replicates, self.sweep.training.seeds
        if asked is None or not kept:
            return {}
        groups = sorted(kept.values(), key=lambda group: spent(group[0]))
        if isinstance(asked.budget, str):
            group = groups[0 if asked.budget == "smallest" else -1]
        else:
            group = next((g for g in groups if g[0].budget == asked.budget), [])
        more = (*seeds, *range(max(seeds) + 1, max(seeds) + 1 + asked.seeds - len(seeds)))
        return {cell.name: more for cell in nearest_centre(group, asked.sizes, centre)} if group else {}

    def _cell_runs(self, cell: Cell, seeds: tuple[int, ...]) -> Iterator[PlannedRun]:
        tuned = self.sweep.tuned(cell.line.family_name)
        keys = [key for key in tuned if key != "batch_tokens"]
        for batch, steps in self.batches[cell.name]:
            for values in itertools.product(*(tuned[key] for key in keys)):
                setting = dict(zip(keys, values, strict=True))
                yield from self.resolver.runs(cell, setting, batch=batch, steps=steps, seeds=seeds)

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

    def _refuse_unspendable(self, kept: Mapping[str, Mapping[str, list[Cell]]]) -> None:
        """An error for the first budget that no shape of any line can spend, and for a plan without runs."""
        first = {d.cell.split("/")[1]: d for d in reversed(self.dropped)}
        spendable = {group for groups in kept.values() for group in groups}
        if isinstance(self.sweep.grid, IsoFlop):
            for n, budget in enumerate(self.sweep.grid.budgets):
                if f"{budget:g}" not in spendable:
                    self._refuse_budget(("grid", "budgets", n), first.get(f"{budget:g}"))
        if not spendable:
            self._refuse_budget(("grid",), next(iter(self.dropped), None))

    def _refuse_budget(self, place: tuple[str | int, ...], example: Dropped | None) -> None:
        raise PlanError(
            "nothing can be run here: every cell is dropped",
            where=self.sweep.where(*place),
            got=f"{example.cell}: {example.reason}" if example else None,
            hint="change the budget, the ladder, the batch or the filters",
        )


class Resolver:
    """Turns a cell and a setting into a run, recipes resolved. Runs share their parts, so that each is written once."""

    def __init__(self, sweep: Sweep) -> None:
        init, data = sweep.training.init, sweep.data
        self.sweep = sweep
        self.initialisation = Initialisation(init.embedding_std, init.head_std, init.hidden_gain)
        more = tuple(sorted(data.validation.items())) if data.validation else None
        self.data = DataRef(data.corpus, data.tokenizer, data.validation_tokens, more)
        self.optimizers: dict[Any, Optimizer] = {}
        self.schedules: dict[tuple[int, int | None], Schedule] = {}
        self.costs: dict[tuple[Shape, Optimizer, Any], tuple[float, float]] = {}

    def runs(
        self, cell: Cell, setting: Setting, *, batch: int, steps: int, seeds: Iterable[int], stage: str = "grid"
    ) -> Iterator[PlannedRun]:
        """The run of a cell at one setting of the hyperparameters, once per seed."""
        line, model, training = cell.line, cell.model, self.sweep.training
        scale = Scale(
            tokens=steps * batch,
            sequence_length=training.sequence_length,
            width=model.shape.width,
            params_non_embedding=model.counts.params_non_embedding,
            batch_tokens=batch,
            steps=steps,
        )
        optimizer, schedule = self._optimizer(line, setting, scale), self._schedule(scale)
        name, tokens = cell.name, steps * batch
        for seed in seeds:
            run = Run(
                shape=model.shape,
                parameterization=line.family.parameterization,
                initialisation=self.initialisation,
                optimizer=optimizer,
                schedule=schedule,
                steps=steps,
                batch_tokens=batch,
                sequence_length=training.sequence_length,
                seed=seed,
                data=self.data,
                precision=training.precision,
                ranks=model.ranks,
                self_guided=line.family.self_guided,
            )
            per_step, memory_bytes = self._costs(run)
            yield PlannedRun(
                run=run,
                family=line.family_name,
                line=line.name,
                rank_ratio=line.rank_ratio,
                budget=cell.budget,
                cell=name,
                counts=model.counts,
                flops=model.flops_exact * tokens,
                flops_6nd=model.flops_6nd * tokens,
                optimizer_flops=per_step * steps,
                memory_bytes=memory_bytes,
                stage=stage,
            )

    def _optimizer(self, line: Line, setting: Setting, scale: Scale) -> Optimizer:
        family = line.family
        recipes = any(isinstance(rule, Recipe) for rule in (family.lr, family.other_lr, family.weight_decay))
        key = (line.family_name, tuple(setting.items()), scale if recipes else None)
        if key not in self.optimizers:
            self.optimizers[key] = optimizer_of(family, setting, scale)
        return self.optimizers[key]

    def _costs(self, run: Run) -> tuple[float, float]:
        """Optimizer FLOPs of one step, and training memory: the same for every run of a model and a rule."""
        key = (run.shape, run.optimizer, None if run.ranks is None else tuple(run.ranks.values()))
        if key not in self.costs:
            per_step = counting.optimizer_flops(run.shape, run.ranks, run.optimizer, 1)
            self.costs[key] = (per_step, counting.training_memory_bytes(run))
        return self.costs[key]

    def _schedule(self, scale: Scale) -> Schedule:
        asked = self.sweep.training.schedule
        share = asked.warmup(scale) if isinstance(asked.warmup, Recipe) else asked.warmup
        warmup = min(round(share * scale.steps), scale.steps - 1)
        decay = None if asked.decay is None else max(1, round(asked.decay * scale.steps))
        if (warmup, decay) not in self.schedules:
            self.schedules[warmup, decay] = Schedule(asked.kind, warmup, asked.final, decay)
        return self.schedules[warmup, decay]


def optimizer_of(family: Family, setting: Setting, scale: Scale) -> Optimizer:
    """The update rule of a family with every constant, at one setting of what is tuned."""

    def value(key: str, at: Scale) -> Any:
        given = setting[key] if key in setting else getattr(family, key)
        if isinstance(given, Recipe):
            return given(at)
        return given[0] if isinstance(given, tuple) else given

    lr = value("lr", scale)
    return Optimizer(
        name=family.optimizer,
        lr=lr,
        other_lr=lr if family.other_lr is None else value("other_lr", scale),
        beta1=family.beta1,
        beta2=family.beta2,
        eps=family.eps,
        weight_decay=value("weight_decay", replace(scale, lr=lr)) or None,
        gradient_clip=family.gradient_clip,
        **constants(family.optimizer, {key: value(key, scale) for key in CONSTANTS[family.optimizer]}),
    )
