"""Packing: short runs share a scheduler task, so that a thousand one-minute runs are not a thousand jobs.

Runs are placed longest first, each into the task with the least predicted work so far (Graham's LPT rule, SIAM J. Appl.
Math. 17, 1969: never worse than 4/3 of the best balance). A run as long as the target, or one of unknown
length, has a task to itself. The branches of a trunk are placed as if they were one run, because each goes on from
where the one before began its decay.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scaling.rows import PlanRow


@dataclass(frozen=True)
class Task:
    """Runs that one scheduler task trains, in this order, `slots` at a time; `seconds` is the predicted wall time."""

    runs: tuple[str, ...]
    slots: int
    seconds: float | None


def in_order(rows: Iterable[PlanRow]) -> list[PlanRow]:
    """Planned rows as workers should take them: the longest first, branches of a trunk together and shortest first, so
    that each finds what the one before left.
    """
    units: dict[str, list[PlanRow]] = {}
    for row in rows:
        units.setdefault(row.trunk or row.id, []).append(row)
    longest_first = sorted(units.values(), key=lambda unit: -sum(row.hours or 0.0 for row in unit))
    return [row for unit in longest_first for row in sorted(unit, key=lambda row: row.steps)]


def pack(
    seconds: Mapping[str, float | None],
    *,
    target_seconds: float | None = None,
    slots: int = 1,
    trunks: Mapping[str, str] | None = None,
) -> list[Task]:
    """Tasks that train every run once, the longest task first.

    Args:
        seconds: predicted wall time of each run; None where it is unknown.
        target_seconds: the wall time a packed task should take; None packs nothing.
        slots: how many runs a packed task trains side by side.
        trunks: run -> its trunk; runs of one trunk stay together, in the order of `seconds`.
    """
    units: dict[str, list[str]] = {}
    for run in seconds:
        units.setdefault((trunks or {}).get(run, run), []).append(run)
    times = {unit: _total(seconds[run] for run in runs) for unit, runs in units.items()}
    alone = [unit for unit, time in times.items() if target_seconds is None or time is None or time >= target_seconds]
    taken = set(alone)
    short = {unit: time for unit, time in times.items() if time is not None and unit not in taken}
    tasks = [Task(tuple(units[unit]), 1, times[unit]) for unit in alone]
    if short and target_seconds is not None:
        count = math.ceil(sum(short.values()) / (target_seconds * slots)) or 1
        tasks += [_task(group, units, short, slots) for group in _balance(short, count)]
    return sorted(tasks, key=lambda task: (task.seconds is not None, -(task.seconds or 0.0), task.runs))


def _total(times: Iterable[float | None]) -> float | None:
    seconds = list(times)
    return None if None in seconds else sum(time for time in seconds if time is not None)


def _balance(seconds: Mapping[str, float], count: int) -> list[list[str]]:
    """`count` groups (fewer where there are fewer units), each longest first."""
    loads: list[tuple[float, int]] = [(0.0, k) for k in range(count)]
    groups: list[list[str]] = [[] for _ in range(count)]
    for unit in sorted(seconds, key=lambda unit: (-seconds[unit], unit)):
        load, k = heapq.heappop(loads)
        groups[k].append(unit)
        heapq.heappush(loads, (load + seconds[unit], k))
    return [group for group in groups if group]


def _task(group: list[str], units: Mapping[str, list[str]], seconds: Mapping[str, float], slots: int) -> Task:
    slots = min(slots, len(group))
    wall = max(seconds[group[0]], sum(seconds[unit] for unit in group) / slots)
    return Task(tuple(run for unit in group for run in units[unit]), slots, wall)
