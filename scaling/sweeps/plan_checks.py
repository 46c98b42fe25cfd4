"""Checks of a plan: what could be wrong with a law fitted to its runs. Codes never change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from scaling import checks
from scaling.checks import Check
from scaling.parameterizations import parameterization_of, structures

if TYPE_CHECKING:
    from scaling.rows import CellKey
    from scaling.sweeps.resolve import PlannedRun
    from scaling.sweeps.schema import Sweep


def plan_checks(sweep: Sweep, runs: Sequence[PlannedRun]) -> tuple[Check, ...]:
    """Every check that a plan alone decides."""
    by_line: dict[str, list[PlannedRun]] = {}
    for planned in runs:
        by_line.setdefault(planned.line, []).append(planned)
    result = [
        *_saves_nothing(by_line),
        *_few_budgets(sweep, by_line),
        *_few_steps(by_line),
        *_embedding_share(by_line),
        *_rates(sweep, by_line),
        *_optimizers(sweep),
        *_seed_noise(by_line),
    ]
    return tuple(result)


def _saves_nothing(by_line: dict[str, list[PlannedRun]]) -> Iterator[Check]:
    """Factorized matrices that have no fewer parameters than the dense ones."""
    lines = []
    for line, runs in by_line.items():
        models = {id(p.run.ranks): p.run for p in runs if parameterization_of(p.run.ranks).structured}
        groups = {
            name
            for sizes, used in ((run.shape.matrices(), structures(run.shape, run.ranks)) for run in models.values())
            for name, (outputs, inputs) in sizes.items()
            if used[name].structured_params(outputs, inputs) >= outputs * inputs
        }
        lines += [f"{line} ({', '.join(sorted(groups))})"] if groups else []
    if lines:
        message = f"Factors with at least as many parameters as the matrix they replace: {'; '.join(lines)}."
        yield checks.RANK_SAVES_NOTHING(message)


def _few_budgets(sweep: Sweep, by_line: dict[str, list[PlannedRun]]) -> Iterator[Check]:
    if sweep.grid.kind != "isoflop":
        return
    budgets = {line: len({planned.budget for planned in runs}) for line, runs in by_line.items()}
    if few := [f"{line} {count}" for line, count in budgets.items() if count < checks.MIN_HOLDOUT_BUDGETS.value]:
        message = (
            f"Fewer than {checks.MIN_LAW_BUDGETS.value:g} compute budgets give no law, and fewer than "
            f"{checks.MIN_HOLDOUT_BUDGETS.value:g} leave none to hold out and predict: {', '.join(few)}."
        )
        yield checks.FEW_BUDGETS(message)


def _few_steps(by_line: dict[str, list[PlannedRun]]) -> Iterator[Check]:
    lines = []
    for line, runs in by_line.items():
        short = [planned.run.steps for planned in runs if planned.run.steps < checks.MIN_STEPS.value]
        lines += [f"{line} {len(short)} of {len(runs)}, the shortest {min(short)}"] if short else []
    if lines:
        yield checks.FEW_STEPS(f"Runs with under {checks.MIN_STEPS.value:g} steps: {'; '.join(lines)}.")


def _embedding_share(by_line: dict[str, list[PlannedRun]]) -> Iterator[Check]:
    lines = []
    for line, runs in by_line.items():
        shares = [(p.counts.embedding + p.counts.head) / p.counts.params_total for p in runs]
        if max(shares) > checks.MAX_EMBEDDING_SHARE.value:
            lines.append(f"{line} {' to '.join(dict.fromkeys((f'{min(shares):.0%}', f'{max(shares):.0%}')))}")
    if lines:
        message = (
            f"Embedding and head are a large share of all parameters, which tilts exponents in N: {', '.join(lines)}."
        )
        yield checks.EMBEDDING_SHARE(message)


def _rates(sweep: Sweep, by_line: dict[str, list[PlannedRun]]) -> Iterator[Check]:
    """Rates that nobody tuned, and families that got unequal tuning."""
    settings = {family: math.prod(len(v) for v in sweep.tuned(family).values()) for family in sweep.families}
    tried = {family: len(sweep.tuned(family).get("lr", ())) or 1 for family in sweep.families}
    if untuned := [f"{family} ({count})" for family, count in tried.items() if count < checks.MIN_RATES.value]:
        message = f"Too few learning rates per cell to bracket the best one: {', '.join(untuned)}."
        yield checks.UNTUNED_RATE(message)
    if len(set(settings.values())) > 1:
        counts = ", ".join(f"{family} {count}" for family, count in settings.items())
        yield checks.UNEQUAL_TUNING(f"Settings tried per cell differ between families: {counts}.")


def _optimizers(sweep: Sweep) -> Iterator[Check]:
    names = {name: family.optimizer for name, family in sweep.families.items()}
    if len(set(names.values())) > 1:
        said = ", ".join(f"{family} {optimizer}" for family, optimizer in names.items())
        message = f"The optimizer differs between families ({said}): a difference belongs to both."
        yield checks.OPTIMIZER_DIFFERS(message)


def _seed_noise(by_line: dict[str, list[PlannedRun]]) -> Iterator[Check]:
    first: dict[CellKey, int] = {}
    if by_line and not any(
        first.setdefault(planned.cell, planned.run.seed) != planned.run.seed
        for runs in by_line.values()
        for planned in runs
    ):
        yield checks.SEED_NOISE_UNKNOWN("No cell has two seeds: the seed noise will be unknown.")
