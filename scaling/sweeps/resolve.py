"""From a cell and a setting to a run: recipes become numbers, and every constant of the optimizer is written out.

A plan of many runs shares the parts of its runs (optimizer, schedule, data), so that each is made and hashed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from scaling.optimizers import find_optimizer
from scaling.rows import CellKey, PlanRow
from scaling.run import Initialisation, Optimizer, Run, Schedule, Shape
from scaling.sweeps import counting
from scaling.sweeps.counting import Counts
from scaling.sweeps.grid_cells import PlannedCell, PlannedLine
from scaling.sweeps.memory import training_memory
from scaling.sweeps.recipes import Recipe, Scale
from scaling.sweeps.schema import Family, Sweep

Setting = Mapping[str, Any]  # hyperparameter -> number, for those the sweep varies


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run and what the plan knows of it. FLOPs are of the whole training; `flops` is the exact count.

    A branch of a `trunk` that other runs of the plan share trains `own_steps`, and takes over `inherited_steps`.
    """

    run: Run
    family: str
    rank_ratio: float | None
    rank_of: str | None
    budget: float | None
    cell: CellKey
    counts: Counts
    flops: float
    flops_6nd: float
    optimizer_flops: float  # arithmetic of the update rule, never part of C
    memory_bytes: float  # training with one sequence at a time
    stage: str = "grid"
    trunk: str | None = None
    inherited_steps: int = 0

    @property
    def line(self) -> str:
        """The line of its cell."""
        return self.cell.line

    @property
    def own_steps(self) -> int:
        """Steps that no other run of the plan has made before."""
        return self.run.steps - self.inherited_steps

    @property
    def own_share(self) -> float:
        """Share of the whole training that is spent on this run."""
        return self.own_steps / self.run.steps

    def row(self, hours: float | None = None, settings: Mapping[str, Any] | None = None) -> PlanRow:
        """The run as `plan --json` lists it and, with its settings, as a launch freezes it."""
        run = self.run
        return PlanRow(
            id=run.id,
            family=self.family,
            cell=self.cell,
            parameterization=run.parameterization,
            optimizer=run.optimizer.name,
            rank_ratio=self.rank_ratio,
            rank_of=self.rank_of,
            shape=run.shape,
            params_total=self.counts.params_total,
            params_non_embedding=self.counts.params_non_embedding,
            params_matmul=self.counts.params_matmul,
            tokens=run.tokens,
            steps=run.steps,
            batch_tokens=run.batch_tokens,
            sequence_length=run.sequence_length,
            budget=self.budget,
            flops=self.flops,
            flops_6nd=self.flops_6nd,
            optimizer_flops=self.optimizer_flops,
            memory_bytes=self.memory_bytes,
            lr=run.optimizer.lr,
            other_lr=run.optimizer.other_lr,
            seed=run.seed,
            stage=self.stage,
            trunk=self.trunk,
            inherited_steps=self.inherited_steps,
            hours=hours,
            settings=settings,
        )


class Resolver:
    """Turns a cell and a setting into a run, recipes resolved. Runs share their parts, so that each is written once."""

    def __init__(self, sweep: Sweep) -> None:
        init = sweep.training.init
        self.sweep = sweep
        self.initialisation = Initialisation(init.embedding_std, init.head_std, init.hidden_gain)
        self.data = sweep.data.ref
        self.optimizers: dict[Any, Optimizer] = {}
        self.schedules: dict[tuple[int, int | None], Schedule] = {}
        self.costs: dict[tuple[Shape, Optimizer, tuple[int, ...] | None, float | None], tuple[float, float]] = {}

    def runs(
        self, cell: PlannedCell, setting: Setting, *, batch: int, steps: int, seeds: Iterable[int], stage: str = "grid"
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
        key, tokens = cell.key, steps * batch
        costs: tuple[float, float] | None = None
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
            if costs is None:
                costs = self._costs(run)
            yield PlannedRun(
                run=run,
                family=line.family_name,
                rank_ratio=line.rank_ratio,
                rank_of=line.rank_of,
                budget=cell.budget,
                cell=key,
                counts=model.counts,
                flops=model.flops_exact * tokens,
                flops_6nd=model.flops_6nd * tokens,
                optimizer_flops=costs[0] * steps,
                memory_bytes=costs[1],
                stage=stage,
            )

    def _optimizer(self, line: PlannedLine, setting: Setting, scale: Scale) -> Optimizer:
        family = line.family
        recipes = any(isinstance(rule, Recipe) for rule in (family.lr, family.other_lr, family.weight_decay))
        key = (line.name, tuple(setting.items()), scale if recipes else None)
        if key not in self.optimizers:
            self.optimizers[key] = optimizer_of(family, setting, scale)
        return self.optimizers[key]

    def _costs(self, run: Run) -> tuple[float, float]:
        """Optimizer FLOPs of one step, and training memory: the same for every run of a model and a rule."""
        ranks = None if run.ranks is None else tuple(run.ranks.values())
        key = (run.shape, run.optimizer, ranks, run.self_guided)
        if key not in self.costs:
            per_step = counting.optimizer_flops(run.shape, run.ranks, run.optimizer, 1)
            self.costs[key] = (per_step, training_memory(run, sequences=1).peak)
        return self.costs[key]

    def _schedule(self, scale: Scale) -> Schedule:
        asked = self.sweep.training.schedule
        share = asked.warmup(scale) if isinstance(asked.warmup, Recipe) else asked.warmup
        warmup = min(asked.warmup_steps or round(share * scale.steps), scale.steps - 1)
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

    lr, rule = value("lr", scale), find_optimizer(family.optimizer)
    return Optimizer(
        name=family.optimizer,
        lr=lr,
        other_lr=lr if family.other_lr is None else value("other_lr", scale),
        beta1=family.beta1,
        beta2=family.beta2,
        eps=family.eps,
        weight_decay=value("weight_decay", replace(scale, lr=lr)) or None,
        gradient_clip=family.gradient_clip,
        **rule.values({key: value(key, scale) for key in rule.constants}),
    )
