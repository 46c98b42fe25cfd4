"""Packing: short runs share a scheduler task, so that a thousand one-minute runs are not a thousand jobs.

Runs are placed longest first, each into the task with the least predicted work so far (Graham's LPT rule, SIAM J. Appl.
Math. 17, 1969: never worse than 4/3 of the best balance). A run as long as the target, or one whose time nobody can
predict, has a task to itself.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Runs that one scheduler task trains, in this order, `slots` at a time; `seconds` is the predicted wall time."""

    runs: tuple[str, ...]
    slots: int
    seconds: float | None


def pack(seconds: Mapping[str, float | None], *, target_seconds: float | None = None, slots: int = 1) -> list[Task]:
    """Tasks that train every run once, the longest task first.

    Args:
        seconds: predicted wall time of each run; None where it is unknown.
        target_seconds: the wall time a packed task should take; None packs nothing.
        slots: how many runs a packed task trains side by side.
    """
    alone = [run for run, time in seconds.items() if target_seconds is None or time is None or time >= target_seconds]
    taken = set(alone)
    short = {run: time for run, time in seconds.items() if time is not None and run not in taken}
    tasks = [Task((run,), 1, seconds[run]) for run in alone]
    if short and target_seconds is not None:
        count = math.ceil(sum(short.values()) / (target_seconds * slots)) or 1
        tasks += [_task(runs, short, slots) for runs in _balance(short, count)]
    return sorted(tasks, key=lambda task: (task.seconds is not None, -(task.seconds or 0.0), task.runs))


def _balance(seconds: Mapping[str, float], count: int) -> list[list[str]]:
    """`count` groups (fewer where there are fewer runs), each longest first."""
    loads: list[tuple[float, int]] = [(0.0, k) for k in range(count)]
    groups: list[list[str]] = [[] for _ in range(count)]
    for run in sorted(seconds, key=lambda run: (-seconds[run], run)):
        load, k = heapq.heappop(loads)
        groups[k].append(run)
        heapq.heappush(loads, (load + seconds[run], k))
    return [group for group in groups if group]


def _task(runs: list[str], seconds: Mapping[str, float], slots: int) -> Task:
    slots = min(slots, len(runs))
    wall = max(seconds[runs[0]], sum(seconds[run] for run in runs) / slots)
    return Task(tuple(runs), slots, wall)
