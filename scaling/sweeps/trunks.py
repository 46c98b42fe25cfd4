"""Trunks of a plan: which runs share a stable phase, and what keeps others from it.

Runs of a wsd schedule that differ only in their length are branches of one trunk (`Run.trunk_id`). Shortest first, each
goes on from where the one before began its decay, at step s = steps − decay_steps; so branch i makes
steps_i − s_(i−1) steps of its own, and all of them together max(s) + Σ decay_steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from scaling import checks
from scaling.checks import Check
from scaling.sweeps.counting import state_bytes
from scaling.sweeps.recipes import Recipe
from scaling.sweeps.resolve import PlannedRun
from scaling.sweeps.schema import Sweep

LENGTH = ("steps", "decay_steps")  # what branches of one trunk may differ in


def share(runs: Sequence[PlannedRun]) -> tuple[PlannedRun, ...]:
    """The same runs, those that share a trunk labelled with it and with the steps they take over."""
    trunks: dict[str, list[PlannedRun]] = {}
    for planned in runs:
        if planned.run.schedule.decay_steps is not None and planned.run.trunk_id is not None:
            trunks.setdefault(planned.run.trunk_id, []).append(planned)
    branches: dict[str, PlannedRun] = {}
    for trunk, members in trunks.items():
        reached = 0
        for planned in sorted(members, key=_branch_step) if len(members) > 1 else ():
            branches[planned.run.id] = replace(planned, trunk=trunk, inherited_steps=reached)
            reached = _branch_step(planned)
    return tuple(branches.get(planned.run.id, planned) for planned in runs) if branches else tuple(runs)


def trunk_bytes(runs: Sequence[PlannedRun]) -> float:
    """Bytes of all states that the trunks of a plan leave, one per branch; all but the last go when a trunk is done."""
    return sum(state_bytes(planned.run) for planned in runs if planned.trunk is not None)


def trunk_checks(sweep: Sweep, runs: Sequence[PlannedRun]) -> Iterator[Check]:
    """Why runs of one model and seed share no trunk over their lengths, where the schedule would allow it."""
    if sweep.training.schedule.kind != "wsd":
        return
    models: dict[tuple[Any, ...], list[PlannedRun]] = {}
    for planned in runs:
        tuned = (_tuned(planned, key) for key in sweep.tuned(planned.family))
        models.setdefault((planned.line, planned.run.shape, planned.run.seed, *tuned), []).append(planned)
    apart: dict[str, dict[str, None]] = {}  # reason -> lines, in order
    for members in models.values():
        for key in _differences(members):
            apart.setdefault(_reason(sweep, members[0], key), {})[members[0].line] = None
    if apart:
        said = "; ".join(f"{', '.join(lines)}: {reason}" for reason, lines in apart.items())
        yield checks.TRUNK_NOT_SHARED(f"Runs of one model that share no trunk over their lengths: {said}.")


def _branch_step(planned: PlannedRun) -> int:
    return planned.run.branch_step or 0


def _tuned(planned: PlannedRun, key: str) -> Any:
    return planned.run.batch_tokens if key == "batch_tokens" else getattr(planned.run.optimizer, key)


def _differences(members: Sequence[PlannedRun]) -> list[str]:
    """The settings that keep runs of several lengths apart."""
    if len({planned.run.steps for planned in members}) < 2:
        return []
    if any(planned.run.trunk_id is None for planned in members):
        return ["self_guided" if members[0].run.self_guided else "decay"]
    if len({planned.run.trunk_id for planned in members}) < 2:
        return []
    flat = [dict(_flat(planned.run.settings())) for planned in members]
    keys = dict.fromkeys(key for settings in flat for key in settings if key not in LENGTH)
    return [key for key in keys if len({settings.get(key) for settings in flat}) > 1]


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield key, value if isinstance(value, (int, float, str)) else repr(value)


def _reason(sweep: Sweep, planned: PlannedRun, key: str) -> str:
    if key == "self_guided":
        return "the dense helper fades over a share of all steps"
    if key == "decay":
        return "a decay of all steps leaves no stable phase"
    if key == "warmup_steps" and sweep.training.schedule.warmup_steps is not None:
        return "some runs are no longer than the warm-up"
    if key == "warmup_steps" and not isinstance(sweep.training.schedule.warmup, Recipe):
        return "warm-up is a share of the steps (write warmup_steps)"
    training, family = sweep.training, sweep.families[planned.family]
    rule = {"batch_tokens": training.batch_tokens, "warmup_steps": training.schedule.warmup}.get(key)
    rule = rule if rule is not None else getattr(family, key, None)
    return f"{key} differs" + (f" by recipe {rule.name}" if isinstance(rule, Recipe) else "")
