"""Arrays: the runs of a launch as job arrays, by the runner's rules.

Each run takes the first resource rule that fits it; short runs of one rule share tasks with those that may share a GPU
with as many; tasks that need the same are one array, cut where the cluster's MaxArraySize says. SLURM throttles an
array (``%n``), not a launch, so `max_concurrent` is shared out between the arrays by their number of tasks, and arrays
beyond that number wait for earlier ones. What arrays of earlier launches still use of it is taken off first; where
nothing is left, the new arrays wait for those.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scaling.runners.packing import Task, pack
from scaling.runners.scheduler import Work

if TYPE_CHECKING:
    from scaling.runners.runner_file import Resources, Runner

DEFAULT_MAX_ARRAY_SIZE = 1001  # slurm.conf(5): array indices stay below it


@dataclass(frozen=True)
class Array:
    """Tasks that need the same resources, submitted by one sbatch call. `parallelism` of them run at a time, and each
    trains `slots` runs side by side, `runs_per_gpu` of them on one GPU.
    """

    resources: Resources
    tasks: tuple[Task, ...]
    slots: int
    runs_per_gpu: int = 1
    parallelism: int | None = None  # None: all
    after: int | None = None  # starts when the array at this place of the list has ended
    after_job: str | None = None  # or when this job has

    @property
    def shares(self) -> int:
        """How often a task needs what one run needs: once for all that share a GPU."""
        return math.ceil(self.slots / self.runs_per_gpu)

    @property
    def run_ids(self) -> list[str]:
        """Every run of the array."""
        return [run_id for task in self.tasks for run_id in task.runs]


@dataclass(frozen=True)
class Chain:
    """Live arrays of which each waits for the one before: the last one's job, and how many tasks run at a time."""

    last: str
    share: int


def make_arrays(
    profile: Runner,
    work: Iterable[Work],
    *,
    max_array_size: int = DEFAULT_MAX_ARRAY_SIZE,
    chains: Sequence[Chain] = (),
) -> list[Array]:
    """The arrays of a launch, each with its longest task first.

    Args:
        profile: the runner file.
        work: the runs.
        max_array_size: an array has at most so many tasks.
        chains: what is live of earlier launches, where the runner file has `max_concurrent`.

    Raises:
        SpecError: no resource rule takes a run.
    """
    by_rule: dict[tuple[Resources, int], dict[str, float | None]] = {}
    work = list(work)
    trunks = {run.run_id: run.trunk for run in work if run.trunk is not None}
    for run in work:
        rule = profile.resources_for(run.params)
        by_rule.setdefault((rule, run.runs_per_gpu), {})[run.run_id] = run.seconds
    arrays: list[Array] = []
    target = profile.pack.target if profile.pack else None
    for (rule, runs_per_gpu), seconds in by_rule.items():
        slots = (profile.slots or 1) * runs_per_gpu if rule.ranks == 1 else 1
        tasks = pack(seconds, target_seconds=target, slots=slots, trunks=trunks)
        for count in dict.fromkeys(task.slots for task in tasks):
            alike = [task for task in tasks if task.slots == count]
            for start in range(0, len(alike), max_array_size):
                arrays.append(Array(rule, tuple(alike[start : start + max_array_size]), count, runs_per_gpu))
    if profile.max_concurrent is None:
        return arrays
    left = profile.max_concurrent - sum(chain.share for chain in chains)
    return _throttle(arrays, left) if left >= 1 else _queue_behind(arrays, chains)


def _throttle(arrays: list[Array], limit: int) -> list[Array]:
    """Shares of `limit` in proportion to the tasks (largest remainder, at least one each)."""
    first = arrays[:limit]
    total = sum(len(array.tasks) for array in first)
    shares = [max(1, limit * len(array.tasks) // total) for array in first]
    while sum(shares) > limit:
        shares[shares.index(max(shares))] -= 1
    by_remainder = sorted(range(len(first)), key=lambda k: -(limit * len(first[k].tasks) % total))
    for k in by_remainder[: limit - sum(shares)]:
        shares[k] += 1
    throttled = [replace(array, parallelism=share) for array, share in zip(first, shares, strict=True)]
    for place in range(limit, len(arrays)):
        before = place - limit
        throttled.append(replace(arrays[place], parallelism=throttled[before].parallelism, after=before))
    return throttled


def _queue_behind(arrays: list[Array], chains: Sequence[Chain]) -> list[Array]:
    """Every array behind the live ones, with their shares, in turn."""
    queued: list[Array] = []
    for place, array in enumerate(arrays):
        chain = chains[place % len(chains)]
        before = place - len(chains)
        links: dict[str, Any] = {"after": before} if before >= 0 else {"after_job": chain.last}
        queued.append(replace(array, parallelism=chain.share, **links))
    return queued
